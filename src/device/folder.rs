//! A folder of pictures that stands in for a camera.

use crate::vision::frame::{Frame, PixelFormat, SIDE_MAX};
use image::{ColorType, DynamicImage, ImageDecoder, ImageReader, Limits};
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

/// What a folder source reads, by file ending.
const ENDINGS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Largest file: as many bytes as the pixels of a 32 Mpx picture.
const FILE_BYTES_MAX: u64 = 96 << 20;

/// Why a folder cannot stand in for a camera.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("cannot read the folder of pictures {path}: {cause}")]
    Unreadable { path: PathBuf, cause: std::io::Error },
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
    reader: Reader,
}

impl Folder {
    pub fn open(path: &Path, repeat: bool) -> Result<Folder, FolderError> {
        let unreadable = |cause| FolderError::Unreadable {
            path: path.to_owned(),
            cause,
        };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            let ending = file
                .extension()
                .and_then(|ending| ending.to_str())
                .unwrap_or_default()
                .to_ascii_lowercase();
            if ENDINGS.contains(&ending.as_str()) && file.is_file() {
                files.push(file);
            }
        }
        if files.is_empty() {
            return Err(FolderError::Empty(path.to_owned()));
        }
        files.sort();
        Ok(Folder {
            path: path.to_owned(),
            files,
            next: 0,
            repeat,
            broken: 0,
            reader: Reader::default(),
        })
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
            match self.reader.read(&self.files[at], frame) {
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
        Err(FolderError::AllBroken {
            path: self.path.clone(),
            count: self.files.len(),
        })
    }
}

/// Reads pictures as RGB. Keeps its buffers, so that only the decoder itself allocates per picture.
#[derive(Debug, Default)]
struct Reader {
    file: Vec<u8>,
    grey: Vec<u8>,
}

impl Reader {
    /// A file that is or claims to be huge is refused before memory is taken. What it says of
    /// orientation is ignored: a camera's frame has none.
    fn read(&mut self, file: &Path, frame: &mut Frame) -> Result<(), image::ImageError> {
        self.file.clear();
        File::open(file)?
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut self.file)?;
        if self.file.len() as u64 > FILE_BYTES_MAX {
            return Err(broken("the file is larger than 96 MB"));
        }
        if self.file.starts_with(&[0xff, 0xd8]) && is_cut_short(&self.file) {
            // The decoder would fill the rest with grey, and grey is no evidence.
            return Err(broken("the JPEG file is cut short"));
        }
        let mut limits = Limits::default();
        limits.max_image_width = Some(SIDE_MAX);
        limits.max_image_height = Some(SIDE_MAX);
        let mut reader = ImageReader::new(Cursor::new(&self.file[..])).with_guessed_format()?;
        reader.limits(limits);
        let decoder = reader.into_decoder()?;
        let (width, height) = decoder.dimensions();
        let pixels = width as usize * height as usize;
        match decoder.color_type() {
            ColorType::Rgb8 => {
                frame.bytes.resize(pixels * 3, 0);
                decoder.read_image(&mut frame.bytes)?;
            }
            ColorType::L8 => {
                self.grey.resize(pixels, 0);
                decoder.read_image(&mut self.grey)?;
                frame.bytes.clear();
                frame.bytes.extend(self.grey.iter().flat_map(|&v| [v; 3]));
            }
            // Rare among cameras' pictures: deep, with a palette, or with an alpha channel.
            _ => frame.bytes = DynamicImage::from_decoder(decoder)?.into_rgb8().into_raw(),
        }
        (frame.format, frame.width, frame.height) = (PixelFormat::Rgb3, width, height);
        frame.stride = PixelFormat::Rgb3.row_bytes(width);
        Ok(())
    }
}

fn broken(words: &'static str) -> image::ImageError {
    image::ImageError::IoError(std::io::Error::new(std::io::ErrorKind::InvalidData, words))
}

/// A whole JPEG has an end-of-image marker behind its last start-of-scan. Inside a scan neither
/// byte pair can occur, and those of an embedded thumbnail come before.
fn is_cut_short(jpeg: &[u8]) -> bool {
    let last = |marker: u8| jpeg.windows(2).rposition(|pair| pair == [0xff, marker]);
    match (last(0xda), last(0xd9)) {
        (Some(scan), Some(end)) => end < scan,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        Frame::new(PixelFormat::Grey, 0, 0, Vec::new())
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
        let dir = folder_of(&[
            ("b.png", Some(5)),
            ("a.png", Some(3)),
            ("aa.jpg", None),
            ("notes.txt", None),
        ]);
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
    fn a_picture_that_is_cut_short_is_broken_and_not_half_grey() {
        let dir = folder_of(&[("whole.jpg", Some(64)), ("whole.png", Some(64))]);
        for name in ["whole.jpg", "whole.png"] {
            let whole = std::fs::read(dir.path().join(name)).unwrap();
            let file = dir.path().join("cut").with_extension(&name[6..]);
            let mut frame = frame();
            for bytes in [0, 1, 20, whole.len() / 2, whole.len() - 2] {
                std::fs::write(&file, &whole[..bytes]).unwrap();
                // A PNG lacks nothing without the checksum of its end.
                let lacks_nothing = name == "whole.png" && bytes == whole.len() - 2;
                assert!(
                    Reader::default().read(&file, &mut frame).is_err() || lacks_nothing,
                    "{bytes} bytes of {name}"
                );
            }
            std::fs::write(&file, [&whole[..], b"\0\0 what some cameras append"].concat()).unwrap();
            Reader::default().read(&file, &mut frame).unwrap();
        }
    }

    #[test]
    fn grey_and_deep_pictures_come_as_rgb_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let (mut reader, mut frame) = (Reader::default(), frame());
        let value = |x: u32, y: u32| (x * 20 + y) as u8;
        let pictures: [(&str, DynamicImage); 4] = [
            (
                "rgb",
                image::RgbImage::from_fn(9, 5, |x, y| image::Rgb([value(x, y); 3])).into(),
            ),
            (
                "grey",
                image::GrayImage::from_fn(7, 4, |x, y| image::Luma([value(x, y)])).into(),
            ),
            (
                "deep",
                image::ImageBuffer::from_fn(6, 3, |x, y| image::Luma([u16::from(value(x, y)) * 257])).into(),
            ),
            (
                "alpha",
                image::RgbaImage::from_fn(3, 8, |x, y| {
                    let v = value(x, y);
                    image::Rgba([v, v, v, 9])
                })
                .into(),
            ),
        ];
        for (name, picture) in pictures {
            let file = dir.path().join(name).with_extension("png");
            picture.save(&file).unwrap();
            reader.read(&file, &mut frame).unwrap();
            assert_eq!(frame.check(), Ok(()), "{name}");
            let (w, h) = (picture.width(), picture.height());
            assert_eq!((frame.width, frame.height), (w, h), "{name}");
            let wanted: Vec<u8> = (0..h)
                .flat_map(|y| (0..w).flat_map(move |x| [value(x, y); 3]))
                .collect();
            assert_eq!(frame.bytes, wanted, "{name}");
        }
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
        assert!(
            Folder::open(empty.path(), false)
                .unwrap_err()
                .to_string()
                .contains("name another folder")
        );
        let missing = empty.path().join("nowhere");
        assert!(
            Folder::open(&missing, false)
                .unwrap_err()
                .to_string()
                .contains("nowhere")
        );
        let broken = folder_of(&[("a.png", None), ("b.jpg", None)]);
        let mut folder = Folder::open(broken.path(), true).unwrap();
        assert!(matches!(
            folder.next_into(&mut frame()),
            Err(FolderError::AllBroken { count: 2, .. })
        ));
    }
}
