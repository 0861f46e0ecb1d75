//! The part of the file system in which the kernel tells what there is: `/proc`, `/sys` and `/dev`,
//! or a folder of a test in their place.

use std::fs;
use std::path::{Path, PathBuf};

pub struct Tree {
    root: PathBuf,
}

impl Tree {
    pub fn of_this_machine() -> Tree {
        Tree::at("/")
    }

    pub fn at(root: impl Into<PathBuf>) -> Tree {
        Tree { root: root.into() }
    }

    /// A place in the tree; `path` is relative: `proc/cpuinfo`.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// What a small file says, without white space and zero bytes around it. `None` when it cannot be
    /// read; files of the kernel that are there and empty are `Some("")`.
    pub fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        let bytes = fs::read(self.path(path)).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        Some(
            text.trim_matches(|c: char| c.is_whitespace() || c == '\0')
                .to_owned(),
        )
    }

    /// The names in a folder, in order; none when there is no such folder.
    pub fn list(&self, path: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort_by(|a, b| natural(a).cmp(&natural(b)));
        names
    }
}

/// `video2` comes before `video10`.
fn natural(name: &str) -> (&str, u64) {
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (stem, number) = name.split_at(name.len() - digits);
    (stem, number.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_numbers_are_in_the_order_of_the_numbers() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["video10", "video2", "v4l-subdev0"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let tree = Tree::at(dir.path());
        assert_eq!(tree.list(""), ["v4l-subdev0", "video2", "video10"]);
        assert_eq!(tree.list("nowhere"), [""; 0]);
    }

    #[test]
    fn what_the_kernel_writes_around_a_word_is_no_part_of_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("model"), b" Board 5\0\n").unwrap();
        assert_eq!(Tree::at(dir.path()).read("model").as_deref(), Some("Board 5"));
        assert_eq!(Tree::at(dir.path()).read("none"), None);
    }
}
