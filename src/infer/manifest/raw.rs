//! The manifest as written, and the step from there to a [`ModelInfo`].
//!
//! Unknown keys are allowed here, unlike in the station's configuration: a
//! manifest is made by training scripts, which add notes and measurements.

use super::{Activation, Channels, Filter, ManifestError, ModelFile, ModelInfo, Task, parse_hex};
use serde::Deserialize;
use std::path::Path;

/// The one version there is.
const FORMAT: i64 = 1;

/// Sides of inputs that make sense: below, no part is recognisable; above, no
/// box this product runs on keeps up.
const SIZE_MIN: i64 = 16;
const SIZE_MAX: i64 = 1024;

/// Where a manifest came from, for messages and for `labels_file`.
pub struct Origin<'a> {
    pub shown: &'a str,
    pub folder: Option<&'a Path>,
}

#[derive(Deserialize)]
pub struct Manifest {
    format: i64,
    #[serde(default)]
    model: Vec<Model>,
}

#[derive(Deserialize)]
pub struct Model {
    pub name: String,
    task: String,
    f32: Option<File>,
    int8: Option<File>,
    input: Input,
    mean: Vec<f32>,
    scale: Vec<f32>,
    recipe: Option<String>,
    filter: Option<String>,
    output: Output,
    labels: Option<Vec<String>>,
    labels_file: Option<String>,
    threshold: Option<f32>,
    macs: Option<u64>,
}

#[derive(Deserialize)]
pub struct File {
    pub file: String,
    sha256: String,
}

#[derive(Deserialize)]
struct Input {
    name: String,
    shape: Vec<i64>,
    channels: String,
    layout: Option<String>,
    dtype: Option<String>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    shape: Vec<i64>,
    activation: String,
}

impl Manifest {
    pub fn named(&self, name: &str) -> Option<&Model> {
        self.model.iter().find(|m| m.name == name)
    }
    pub fn names(&self) -> Vec<&str> {
        self.model.iter().map(|m| m.name.as_str()).collect()
    }
    pub fn for_file(&self, file: &str) -> Option<(&Model, &File)> {
        self.model
            .iter()
            .find_map(|m| Some((m, m.all_files().find(|f| f.file == file)?)))
    }
    pub fn files(&self) -> Vec<&str> {
        self.model
            .iter()
            .flat_map(Model::all_files)
            .map(|f| f.file.as_str())
            .collect()
    }
}

impl Model {
    fn all_files(&self) -> impl Iterator<Item = &File> {
        self.int8.iter().chain(&self.f32)
    }
    /// int8 where there is one: it is smaller, and what boxes are meant to run.
    pub fn preferred_file(&self) -> Option<&File> {
        self.all_files().next()
    }
}

pub fn parse(text: &str, origin: &Origin) -> Result<Manifest, ManifestError> {
    let manifest: Manifest = toml::from_str(text).map_err(|e| {
        let line = e
            .span()
            .map(|s| text[..s.start.min(text.len())].lines().count().max(1));
        let place = line.map(|n| format!(" line {n}")).unwrap_or_default();
        ManifestError::model(
            format!("{}{place}: {}", origin.shown, e.message().trim()),
            "correct the manifest, or put the one that came with the model there",
        )
    })?;
    if manifest.format != FORMAT {
        return Err(ManifestError::model(
            format!(
                "{} has format = {}; this version reads format = {FORMAT}",
                origin.shown, manifest.format
            ),
            "use a manifest written for this version",
        ));
    }
    Ok(manifest)
}

pub fn file_hash(file: &File, origin: &Origin, model: &str) -> Result<[u8; 32], ManifestError> {
    parse_hex(&file.sha256).ok_or_else(|| {
        wrong(
            origin,
            model,
            format!("the sha256 of {:?} is not 64 hexadecimal digits", file.file),
        )
    })
}

pub fn to_info(
    model: &Model,
    file: ModelFile,
    sha256: [u8; 32],
    origin: &Origin,
) -> Result<ModelInfo, ManifestError> {
    let at = |what: String| wrong(origin, &model.name, what);
    let fail = |what: String| Err(at(what));
    let task = match model.task.as_str() {
        "classify" => Task::Classify,
        "segment" => Task::Segment,
        other => {
            return fail(format!(
                "task = {other:?}; it has to be \"classify\" or \"segment\""
            ));
        }
    };
    let channels = match model.input.channels.as_str() {
        "RGB" => Channels::Rgb,
        "BGR" => Channels::Bgr,
        other => {
            return fail(format!(
                "input.channels = {other:?}; it has to be \"RGB\" or \"BGR\""
            ));
        }
    };
    let activation = match model.output.activation.as_str() {
        "none" => Activation::None,
        "softmax" => Activation::Softmax,
        "sigmoid" => Activation::Sigmoid,
        other => {
            return fail(format!(
                "output.activation = {other:?}; it has to be \"none\", \"softmax\" or \"sigmoid\""
            ));
        }
    };
    let size = input_size(model).map_err(at)?;
    let (mean, scale) = normalisation(model).map_err(at)?;
    let filter = filter(model).map_err(at)?;
    let labels = labels(model, origin).map_err(at)?;
    check_output(model, task, size, &labels).map_err(at)?;
    let threshold = threshold(model, task).map_err(at)?;
    Ok(ModelInfo {
        name: model.name.clone(),
        task,
        file,
        sha256,
        size,
        input_name: model.input.name.clone(),
        mean,
        scale,
        channels,
        output_name: model.output.name.clone(),
        activation,
        labels,
        threshold,
        filter,
        macs: model.macs,
    })
}

fn wrong(origin: &Origin, model: &str, what: String) -> ManifestError {
    ManifestError::model(
        format!("{}: model {model:?}: {what}", origin.shown),
        "correct the manifest, or put the one that came with the model there",
    )
}

fn input_size(model: &Model) -> Result<u32, String> {
    if model.input.layout.as_deref().is_some_and(|l| l != "NCHW") {
        return Err("input.layout has to be \"NCHW\"".to_owned());
    }
    if model.input.dtype.as_deref().is_some_and(|d| d != "f32") {
        return Err("input.dtype has to be \"f32\"".to_owned());
    }
    match model.input.shape[..] {
        [1, 3, h, w] if h == w && (SIZE_MIN..=SIZE_MAX).contains(&h) => Ok(h as u32),
        _ => Err(format!(
            "input.shape = {:?}; it has to be [1, 3, S, S] with S from {SIZE_MIN} to {SIZE_MAX}",
            model.input.shape
        )),
    }
}

fn normalisation(model: &Model) -> Result<([f32; 3], [f32; 3]), String> {
    let three = |key: &str, values: &[f32]| -> Result<[f32; 3], String> {
        <[f32; 3]>::try_from(values)
            .ok()
            .filter(|v| v.iter().all(|x| x.is_finite()))
            .ok_or_else(|| format!("{key} = {values:?}; it has to be three numbers"))
    };
    let scale = three("scale", &model.scale)?;
    if scale.contains(&0.0) {
        return Err("scale has a 0, and (v - mean) / 0 is no number".to_owned());
    }
    Ok((three("mean", &model.mean)?, scale))
}

/// `filter` says it; else it follows from the training recipe's name.
fn filter(model: &Model) -> Result<Filter, String> {
    match (model.filter.as_deref(), model.recipe.as_deref()) {
        (Some("bilinear"), _) => Ok(Filter::Bilinear),
        (Some("bicubic"), _) => Ok(Filter::Bicubic),
        (Some(other), _) => Err(format!(
            "filter = {other:?}; it has to be \"bilinear\" or \"bicubic\""
        )),
        (None, Some("stretch")) => Ok(Filter::Bilinear),
        (None, Some("resize_crop" | "letterbox_gray")) => Ok(Filter::Bicubic),
        (None, _) => Err(
            "it does not say how pictures are shrunk: add filter = \"bilinear\" or \"bicubic\"".to_owned(),
        ),
    }
}

fn labels(model: &Model, origin: &Origin) -> Result<Vec<String>, String> {
    let labels: Vec<String> = match (&model.labels, &model.labels_file, origin.folder) {
        (Some(labels), None, _) => labels.clone(),
        (None, Some(file), Some(folder)) => {
            // Only a name: a manifest from elsewhere shall not reach outside its folder.
            if Path::new(file).components().count() != 1 || file == ".." {
                return Err(format!(
                    "labels_file = {file:?}; it has to be a file of the same folder"
                ));
            }
            let text = std::fs::read_to_string(folder.join(file))
                .map_err(|e| format!("labels_file {file:?} cannot be read: {e}"))?;
            text.lines().map(|l| l.trim().to_owned()).collect()
        }
        (None, Some(_), None) => return Err("built-in models need `labels`, not `labels_file`".to_owned()),
        (Some(_), Some(_), _) => {
            return Err("it has both `labels` and `labels_file`: leave one out".to_owned());
        }
        (None, None, _) => return Err("it has no `labels`".to_owned()),
    };
    if labels.is_empty() || labels.iter().any(String::is_empty) {
        return Err("there is no label, or an empty one".to_owned());
    }
    Ok(labels)
}

fn check_output(model: &Model, task: Task, size: u32, labels: &[String]) -> Result<(), String> {
    let shape = &model.output.shape;
    let channels = match (task, &shape[..]) {
        (Task::Classify, &[1, n]) => n,
        (Task::Segment, &[1, n, h, w]) if h == w && h > 0 && i64::from(size) % h == 0 => n,
        (Task::Classify, _) => return Err(format!("output.shape = {shape:?}; a classifier has [1, labels]")),
        (Task::Segment, _) => {
            return Err(format!(
                "output.shape = {shape:?}; a mask has [1, classes, h, h], h a divisor of {size}"
            ));
        }
    };
    // A softmax mask has one channel more: channel 0, the background, has no label.
    let background = i64::from(task == Task::Segment && channels == labels.len() as i64 + 1 && channels > 1);
    if channels != labels.len() as i64 + background {
        return Err(format!(
            "{} labels for an output of shape {shape:?}",
            labels.len()
        ));
    }
    if background == 1 && model.output.activation == "sigmoid" {
        return Err(format!(
            "{} labels for a sigmoid output of shape {shape:?}",
            labels.len()
        ));
    }
    // Labels that rules name have to be told apart; ImageNet's list has two cranes.
    let limit = super::CLASSES_MAX;
    if labels.len() <= limit
        && let Some(double) = labels
            .iter()
            .enumerate()
            .find_map(|(i, l)| labels[..i].contains(l).then_some(l))
    {
        return Err(format!("the label {double:?} is there twice"));
    }
    Ok(())
}

fn threshold(model: &Model, task: Task) -> Result<f32, String> {
    match (task, model.threshold) {
        (_, Some(t)) if t > 0.0 && t < 1.0 => Ok(t),
        (_, Some(t)) => Err(format!("threshold = {t}; it has to lie between 0 and 1")),
        // A classifier has no mask; the value is never used.
        (Task::Classify, None) => Ok(0.5),
        (Task::Segment, None) => Err("a mask needs a `threshold` between 0 and 1".to_owned()),
    }
}
