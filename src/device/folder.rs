//! A folder of pictures that stands in for a camera.

use crate::vision::frame::{Frame, PixelFormat, SIDE_MAX};
use image::{ImageReader, Limits};
use std::path::{Path, PathBuf};

/// What a folder source reads, by file ending.
const ENDINGS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Why a folder cannot stand in for a camera.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("cannot read the folder of pictures {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("no picture (.jpg, .jpeg, .png) in {0}; name another folder in [camera.NAME.source.folder] path")]
    Empty(PathBuf),
    #[error("none of the {count} pictures in {path} can be read")]
    AllBroken { path: PathBuf, count: usize },
}

/// Pictures in the order of their names. Files that cannot be read are reported, counted and skipped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    files: Vec<PathBuf>,
    next: usize,
    repeat: bool,
    broken: usize,
}

impl Folder {
    pub fn open(path: &Path, repeat: bool) -> Result<Folder, FolderError> {
        let unreadable = |source| FolderError::Unreadable { path: path.to_owned(), source };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
            if ENDINGS.contains(&ending.as_str()) && file.is_file() {
                files.push(file);
            }
        }
        if files.is_empty() {
            return Err(FolderError::Empty(path.to_owned()));
        }
        files.sort();
        Ok(Folder { path: path.to_owned(), files, next: 0, repeat, broken: 0 })
    }

    pub fn len(&self) -> usize {
        self.files.len()
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Files that could not be read so far.
    pub fn broken(&self) -> usize {
        self.broken
    }

    /// Decodes the next readable picture into `frame` (format, size, bytes). `Ok(None)` after the last one.
    ///
    /// # Errors
    /// When a whole round gave no picture at all.
    pub fn next_into(&mut self, frame: &mut Frame) -> Result<Option<&Path>, FolderError> {
        for _ in 0..self.files.len() {
            if self.next == self.files.len() {
                if !self.repeat {
                    return Ok(None);
                }
                self.next = 0;
            }
            let at = self.next;
            self.next += 1;
            match decode(&self.files[at], frame) {
                Ok(()) => return Ok(Some(&self.files[at])),
                Err(error) => {
                    self.broken += 1;
                    tracing::warn!("{} is skipped: {error}", self.files[at].display());
                }
            }
        }
        if self.broken < self.files.len() {
            return Ok(None);
        }
        Err(FolderError::AllBroken { path: self.path.clone(), count: self.files.len() })
    }
}

/// Reads one picture as RGB. A file that claims to be huge is refused before memory is taken.
pub fn decode(file: &Path, frame: &mut Frame) -> Result<(), image::ImageError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    let mut reader = ImageReader::open(file)?.with_guessed_format()?;
    reader.limits(limits);
    let picture = reader.decode()?.into_rgb8();
    frame.width = picture.width();
    frame.height = picture.height();
    frame.stride = picture.width() * 3;
    frame.format = PixelFormat::Rgb3;
    frame.bytes = picture.into_raw();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{CameraId, FrameId, Instant};

    fn frame() -> Frame {
        Frame {
            camera: CameraId(0),
            id: FrameId(0),
            sequence: 0,
            mid_exposure: Instant::ZERO,
            format: PixelFormat::Grey,
            width: 0,
            height: 0,
            stride: 0,
            bytes: Vec::new(),
        }
    }

    fn folder_of(pictures: &[(&str, Option<u32>)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, width) in pictures {
            let file = dir.path().join(name);
            match width {
                Some(width) => image::RgbImage::new(*width, 2).save(file).unwrap(),
                None => std::fs::write(file, "no picture").unwrap(),
            }
        }
        dir
    }

    #[test]
    fn pictures_come_by_name_and_broken_ones_are_counted() {
        let dir = folder_of(&[("b.png", Some(5)), ("a.png", Some(3)), ("aa.jpg", None), ("notes.txt", None)]);
        let mut folder = Folder::open(dir.path(), false).unwrap();
        let mut frame = frame();
        let mut widths = Vec::new();
        while folder.next_into(&mut frame).unwrap().is_some() {
            widths.push(frame.width);
        }
        assert_eq!(widths, [3, 5]);
        assert_eq!(folder.broken(), 1);
    }

    #[test]
    fn a_repeating_folder_starts_again() {
        let dir = folder_of(&[("a.png", Some(3)), ("b.png", Some(5))]);
        let mut folder = Folder::open(dir.path(), true).unwrap();
        let mut frame = frame();
        let widths: Vec<u32> = (0..5)
            .map(|_| {
                folder.next_into(&mut frame).unwrap();
                frame.width
            })
            .collect();
        assert_eq!(widths, [3, 5, 3, 5, 3]);
    }

    #[test]
    fn a_folder_without_pictures_says_what_to_do() {
        let empty = folder_of(&[]);
        assert!(Folder::open(empty.path(), false).unwrap_err().to_string().contains("name another folder"));
        let missing = empty.path().join("nowhere");
        assert!(Folder::open(&missing, false).unwrap_err().to_string().contains("nowhere"));
        let broken = folder_of(&[("a.png", None), ("b.jpg", None)]);
        let mut folder = Folder::open(broken.path(), true).unwrap();
        assert!(matches!(folder.next_into(&mut frame()), Err(FolderError::AllBroken { count: 2, .. })));
    }
}
