//! Which pictures there are and what they show: `labels.csv` or `split.json`.

use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// A labelled picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// As listed.
    pub name: String,
    pub file: PathBuf,
    pub label: String,
    /// Picture of the true defect.
    pub mask: Option<PathBuf>,
}

/// Reads the list at `path`; of `split` alone if that is given.
pub fn read(path: &Path, split: Option<&str>) -> Result<Vec<Row>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the labels {shown}"))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let rows = if path.extension().is_some_and(|e| e == "json") {
        from_json(&text, folder, split)
    } else {
        from_csv(&text, folder, split)
    };
    let rows = rows.with_context(|| format!("labels {shown}"))?;
    ensure!(
        !rows.is_empty(),
        "labels {shown}: no picture is listed; check the file and --split"
    );
    Ok(rows)
}

/// Columns `file` and `label`, also `mask` and `split`; others are ignored.
/// Paths start at the folder of the list.
fn from_csv(text: &str, folder: &Path, split: Option<&str>) -> Result<Vec<Row>> {
    let mut lines = text
        .trim_start_matches('\u{feff}')
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.trim().is_empty());
    let (_, head) = lines.next().context("the file is empty")?;
    let head = fields(head)?;
    let column = |name: &str| head.iter().position(|h| h.trim() == name);
    let file = column("file").context("line 1: there is no column `file`")?;
    let label = column("label").context("line 1: there is no column `label`")?;
    let (mask, part) = (column("mask"), column("split"));
    if split.is_some() && part.is_none() {
        bail!("line 1: there is no column `split`; leave --split out");
    }
    let mut rows = Vec::new();
    for (n, line) in lines {
        let n = n + 1;
        let fields = fields(line).with_context(|| format!("line {n}"))?;
        ensure!(
            fields.len() == head.len(),
            "line {n} has {} fields, line 1 has {}",
            fields.len(),
            head.len()
        );
        if let (Some(split), Some(part)) = (split, part)
            && fields[part] != split
        {
            continue;
        }
        ensure!(
            !fields[file].is_empty() && !fields[label].is_empty(),
            "line {n}: `file` or `label` is empty"
        );
        rows.push(Row {
            name: fields[file].clone(),
            file: folder.join(&fields[file]),
            label: fields[label].clone(),
            mask: mask
                .map(|m| &fields[m])
                .filter(|m| !m.is_empty())
                .map(|m| folder.join(m)),
        });
    }
    Ok(rows)
}

/// Commas between, quotes around, doubled quotes inside (RFC 4180, but one line a record).
fn fields(line: &str) -> Result<Vec<String>> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.trim_end_matches('\r').chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    ensure!(!quoted, "a quote is not closed");
    fields.push(field);
    Ok(fields)
}

/// `names`, and a list of files per split; the label is the name that the first
/// folder of the path ends with. A PNG of the same stem is the mask.
fn from_json(text: &str, folder: &Path, split: Option<&str>) -> Result<Vec<Row>> {
    let json: serde_json::Value = serde_json::from_str(text)?;
    let texts = |key: &str| -> Result<Vec<&str>> {
        let list = json
            .get(key)
            .and_then(|v| v.as_array())
            .with_context(|| format!("there is no list {key:?}"))?;
        list.iter()
            .map(|v| {
                v.as_str()
                    .with_context(|| format!("{key:?} has an entry that is no text"))
            })
            .collect()
    };
    let names = texts("names")?;
    let files = match split {
        Some(split) => texts(split)?,
        None => ["train", "val", "test"]
            .into_iter()
            .filter_map(|key| texts(key).ok())
            .flatten()
            .collect(),
    };
    let mut rows = Vec::new();
    for file in files {
        let class = file.split('/').next().unwrap_or_default();
        let label = names.iter().find(|name| class.ends_with(**name)).copied();
        let label = label
            .with_context(|| format!("the folder of {file:?} is none of `names`: {}", names.join(", ")))?;
        let path = folder.join(file);
        let mask = path.with_extension("png");
        let mask = (mask != path && mask.is_file()).then_some(mask);
        rows.push(Row {
            name: file.to_owned(),
            file: path,
            label: label.to_owned(),
            mask,
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_by_its_column_names() {
        let text = "\u{feff}label,extra,file,mask,split\r\n\
                    good,x,a.png,,test\r\n\n\
                    \"bad, very\",\"a \"\"b\"\"\",sub/b.jpg,m/b.png,train\r\n";
        let rows = from_csv(text, Path::new("/d"), None).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (rows[0].file.as_path(), rows[0].mask.as_ref()),
            (Path::new("/d/a.png"), None)
        );
        assert_eq!(
            (rows[1].label.as_str(), rows[1].mask.as_deref()),
            ("bad, very", Some(Path::new("/d/m/b.png")))
        );
        let test = from_csv(text, Path::new("/d"), Some("test")).unwrap();
        assert_eq!(test, rows[..1]);
    }

    #[test]
    fn a_wrong_table_is_told_by_line() {
        for (text, split, words) in [
            ("", None, "the file is empty"),
            ("name,label\n", None, "no column `file`"),
            ("file,label\na,b\n", Some("test"), "no column `split`"),
            ("file,label\na,b\nc\n", None, "line 3 has 1 fields, line 1 has 2"),
            ("file,label\na,\"b\n", None, "line 2"),
            ("file,label\n,b\n", None, "line 2: `file` or `label` is empty"),
        ] {
            let error = format!("{:#}", from_csv(text, Path::new(""), split).unwrap_err());
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_split_takes_labels_from_folders() {
        let text =
            r#"{"names": ["Free", "Crack"], "train": ["MT_Free/a.jpg"], "test": ["MT_Crack/Imgs/b.jpg"]}"#;
        let rows = from_json(text, Path::new("/d"), Some("test")).unwrap();
        assert_eq!((rows.len(), rows[0].label.as_str()), (1, "Crack"));
        assert_eq!(from_json(text, Path::new("/d"), None).unwrap().len(), 2);
        assert!(
            from_json(text, Path::new("/d"), Some("val"))
                .unwrap_err()
                .to_string()
                .contains("no list \"val\"")
        );
        let odd = text.replace("MT_Free", "MT_Odd");
        assert!(
            from_json(&odd, Path::new("/d"), None)
                .unwrap_err()
                .to_string()
                .contains("none of `names`")
        );
    }
}
