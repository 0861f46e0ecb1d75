//! Pictures of kept parts.
//!
//! For each: the exact input of each model as PNG, so that a desk reproduces the
//! box's verdict (invariant 9), and one picture for people, with the defect
//! outlined and the verdict in words. A file appears under its name only when it
//! is whole and on the disk. Names start with the part number; the date in the
//! folder's name is for people and may be wrong where the clock is.

use super::annotate::{annotate, without_words};
use super::health::{Health, Source};
use super::retention::{Disk, Retention};
use super::system;
use crate::config::{Keep, Record};
use crate::queue::Receiver;
use crate::station::event::Verdict;
use crate::status::Thumbnail;
use crate::units::PartId;
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant as StdInstant};

/// Gets the small picture of each rejected part.
pub type Thumbnails = Box<dyn Fn(PartId, Arc<Thumbnail>) + Send>;

/// How often free space is looked at while no picture comes.
const LOOK: Duration = Duration::from_secs(30);
/// What the name of a file not yet whole begins with.
const TEMPORARY: &str = ".new-";

/// A square RGB picture, 3 bytes a pixel, no padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Square {
    pub side: u32,
    pub rgb: Vec<u8>,
}

/// What is kept of one part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    pub part: PartId,
    /// The part is meant to leave the belt.
    pub rejected: bool,
    /// Write it to the disk; otherwise only the thumbnail is made.
    pub keep: bool,
    /// Verdict and reason as people read it: "scratch 0.93, limit 0.60".
    pub words: String,
    pub recipe: String,
    /// Exact inputs of the models that ran.
    pub classify: Option<Square>,
    pub segment: Option<Square>,
    /// Class of each pixel of `segment`: 0 none, n label n-1. Empty without a mask.
    pub mask: Vec<u8>,
}

/// Whether the configuration wants the pictures of a part.
pub fn wanted(record: &Record, keep_unsure: bool, part: PartId, verdict: &Verdict, rejected: bool) -> bool {
    if keep_unsure && *verdict == Verdict::Unsure {
        return true;
    }
    match if rejected { record.rejected } else { record.passed } {
        Keep::All => true,
        Keep::None => false,
        // By number and not by chance, so that a replay keeps the same ones.
        Keep::OneIn(n) => part.0.is_multiple_of(u64::from(n.max(1))),
    }
}

/// Folder of all pictures of a record.
pub fn folder(dir: &Path) -> PathBuf {
    dir.join("pictures")
}

/// Writes pictures and keeps free space, on its own thread.
pub(super) struct PictureThread {
    folder: PathBuf,
    retention: Retention,
    health: Arc<Health>,
    thumbnail: Thumbnails,
}

impl PictureThread {
    pub fn new(dir: &Path, record: &Record, health: Arc<Health>, thumbnail: Thumbnails) -> PictureThread {
        let folder = folder(dir);
        let retention = Retention::new(folder.clone(), record.keep_free_percent, Disk::Real);
        PictureThread {
            folder,
            retention,
            health,
            thumbnail,
        }
    }

    /// Until all senders are gone and all that waited is written.
    pub fn run(mut self, waiting: &Receiver<Box<Picture>>) {
        remove_unfinished(&self.folder);
        let mut looked = None::<StdInstant>;
        loop {
            if looked.is_none_or(|at| at.elapsed() >= LOOK) {
                self.make_room();
                looked = Some(StdInstant::now());
            }
            match waiting.recv_timeout(LOOK) {
                Ok(picture) => self.take(&picture),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, picture: &Picture) {
        let drawn = annotate(picture);
        if picture.keep {
            self.keep(picture, drawn.as_ref());
        }
        if let Some(drawn) = drawn.filter(|_| picture.rejected) {
            (self.thumbnail)(picture.part, Arc::new(without_words(drawn)));
        }
    }

    fn keep(&mut self, picture: &Picture, drawn: Option<&Thumbnail>) {
        let mut result = write(&self.folder, picture, drawn);
        if result
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
            && self.make_room()
        {
            result = write(&self.folder, picture, drawn);
        }
        match result {
            Ok(()) => {
                self.health.picture_written();
                self.health.works(Source::Pictures);
            }
            Err(error) => {
                self.health.picture_lost();
                let why = format_args!(
                    "cannot write pictures to {}: {error}. The line goes on without them",
                    self.folder.display()
                );
                self.health.failed(Source::Pictures, &why);
            }
        }
    }

    /// Deletes old pictures where space is short; whether there is enough now.
    fn make_room(&mut self) -> bool {
        match self.retention.make_room() {
            Ok(outcome) if outcome.low => {
                self.health.failed(Source::Disk, &outcome);
                false
            }
            Ok(outcome) => {
                if outcome.passed + outcome.rejected > 0 {
                    tracing::info!("{outcome}");
                }
                self.health.works(Source::Disk);
                true
            }
            Err(error) => {
                tracing::warn!(
                    "cannot look after free space in {}: {error}",
                    self.folder.display()
                );
                false
            }
        }
    }
}

/// `000000001234-reject`: sorts by part, and says what retention must know.
pub(super) fn stem(part: PartId, rejected: bool) -> String {
    format!("{:012}-{}", part.0, if rejected { "reject" } else { "pass" })
}

/// All files of a part; the picture for people last, so that it never stands alone.
fn write(folder: &Path, picture: &Picture, drawn: Option<&Thumbnail>) -> io::Result<()> {
    let day = folder.join(system::date(system::wall_ms()));
    std::fs::create_dir_all(&day)?;
    let stem = stem(picture.part, picture.rejected);
    for (what, square) in [("classify", &picture.classify), ("segment", &picture.segment)] {
        if let Some(Square { side, rgb }) = square {
            whole(&day, &format!("{stem}.{what}.png"), |to| {
                png(to, rgb, *side, *side)
            })?;
        }
    }
    if let Some(drawn) = drawn {
        whole(&day, &format!("{stem}.png"), |to| {
            png(to, &drawn.rgb, drawn.width, drawn.height)
        })?;
    }
    Ok(())
}

/// Makes a file that is either whole and on the disk, or not there.
fn whole(
    dir: &Path,
    name: &str,
    content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = dir.join(format!("{TEMPORARY}{name}"));
    let made = (|| {
        let mut to = BufWriter::new(File::create(&temporary)?);
        content(&mut to)?;
        to.flush()?;
        // The name must never point to a file whose content a power loss took.
        to.get_ref().sync_data()?;
        std::fs::rename(&temporary, dir.join(name))
    })();
    if made.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    made
}

fn png(to: impl Write, rgb: &[u8], width: u32, height: u32) -> io::Result<()> {
    PngEncoder::new(to)
        .write_image(rgb, width, height, ExtendedColorType::Rgb8)
        .map_err(|error| match error {
            image::ImageError::IoError(io) => io,
            other => io::Error::other(other),
        })
}

/// Removes what a killed process did not finish. What cannot be read is left; writing will tell.
fn remove_unfinished(folder: &Path) {
    let files = |dir: &Path| {
        std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    for file in files(folder).flat_map(|day| files(&day).collect::<Vec<_>>()) {
        if file
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY))
        {
            let _ = std::fs::remove_file(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::station::event::Reason;

    fn record(rejected: Keep, passed: Keep) -> Record {
        Record {
            path: PathBuf::new(),
            rejected,
            passed,
            keep_free_percent: 0,
        }
    }

    #[test]
    fn what_is_kept_depends_on_the_verdict_and_the_number() {
        let record = record(Keep::All, Keep::OneIn(3));
        let kept = |part, verdict: &Verdict, rejected| wanted(&record, true, PartId(part), verdict, rejected);
        let reject = Verdict::Reject(Reason {
            rule: 0,
            measured: 1.0,
        });
        assert!((1..10).all(|part| kept(part, &reject, true)));
        let passed: Vec<u64> = (1..10)
            .filter(|part| kept(*part, &Verdict::Pass, false))
            .collect();
        assert_eq!(passed, [3, 6, 9]);
        assert!(
            (1..10).all(|part| kept(part, &Verdict::Unsure, false)),
            "doubtful parts are always of interest"
        );
        assert!(!wanted(
            &self::record(Keep::None, Keep::None),
            false,
            PartId(3),
            &Verdict::Unsure,
            true
        ));
    }

    #[test]
    fn the_input_of_the_model_is_kept_exactly_and_temporary_files_do_not_stay() {
        let dir = tempfile::tempdir().unwrap();
        let rgb: Vec<u8> = (0..48 * 48 * 3u32).map(|i| (i * 31 % 256) as u8).collect();
        let square = Square {
            side: 48,
            rgb: rgb.clone(),
        };
        let picture = Picture {
            part: PartId(42),
            rejected: true,
            keep: true,
            words: "dent 0.8, limit 0.5".into(),
            classify: Some(square.clone()),
            segment: Some(square),
            mask: vec![0; 48 * 48],
            ..Picture::default()
        };
        let day = dir.path().join(system::date(system::wall_ms()));
        std::fs::create_dir_all(&day).unwrap();
        std::fs::write(day.join(".new-000000000041-reject.png"), "half a picture").unwrap();
        remove_unfinished(dir.path());
        write(dir.path(), &picture, annotate(&picture).as_ref()).unwrap();
        let day = std::fs::read_dir(dir.path())
            .unwrap()
            .last()
            .unwrap()
            .unwrap()
            .path();
        let mut names: Vec<_> = std::fs::read_dir(&day)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        let stem = "000000000042-reject";
        assert_eq!(
            names,
            [
                format!("{stem}.classify.png"),
                format!("{stem}.png"),
                format!("{stem}.segment.png")
            ]
        );
        for what in ["classify", "segment"] {
            let read = image::open(day.join(format!("{stem}.{what}.png"))).unwrap();
            assert_eq!(read.into_rgb8().into_raw(), rgb);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pictures");
        std::fs::write(&file, "in the way").unwrap();
        assert!(write(&file, &Picture::default(), None).is_err());
        let failed = whole(dir.path(), "a.png", |_| Err(io::Error::other("no")));
        assert!(failed.is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
