//! The threads behind the ring: the keeper of reservations, the journal, the pictures.
//!
//! None of them is ever waited for while the line runs. The ring is their queue:
//! the journal thread reads from it what it lacks, so an entry needs no second
//! hand-over, and what a failing disk did not take is still there when it recovers.

use super::health::{Health, OnTrouble, Source};
use super::journal::{Journal, JournalError};
use super::pictures::{Picture, PictureThread, Thumbnails};
use super::ring::{BLOCK_OF_NUMBERS, Ring};
use super::ring_file::{Record, RingFile};
use crate::config::{self, Config, Recipe};
use crate::device::clock;
use crate::queue;
use crate::units::PartId;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::TrySendError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant as StdInstant};

/// Half of the 200 ms of invariant 1; the other half is for the commit.
const BATCH: Duration = Duration::from_millis(100);
/// Most entries in one commit, so that catching up shows progress and needs little memory.
const BATCH_MAX: u64 = 2_000;
/// After a failure: often enough to notice a repaired disk, seldom enough not to burden a sick one.
const RETRY: Duration = Duration::from_secs(1);
/// Ten looks at the reservation in the time in which 50 parts/s use up 25 of 256 numbers.
const KEEPER: Duration = Duration::from_millis(50);
/// Records whose memory is made ready ahead of the appender: several seconds of any line.
const TOUCH_AHEAD: u64 = 512;
/// An overflow of the pictures' queue is over when none was seen for this long.
const CALM: Duration = Duration::from_secs(10);
/// How long an ending station waits for a failing disk before it leaves the rest in the ring.
const FINISH: Duration = Duration::from_secs(5);
/// Kept parts that wait to be written, about 0.5 MB each; beyond it pictures are lost, counted and alarmed.
const PICTURES_WAITING: usize = 16;

/// What the record tells the rest of the station. Called from its threads; must not block.
pub struct Hooks {
    /// A trouble began (`true`) or ended.
    pub trouble: OnTrouble,
    /// A small picture with the defect drawn on, of each rejected part.
    pub thumbnail: Thumbnails,
}

/// What of the configuration the record needs.
#[derive(Clone, Debug)]
pub struct About {
    pub station: String,
    /// Name and `reject_if` of each recipe, in the order of their ids.
    pub recipes: Vec<(String, Vec<String>)>,
    pub record: config::Record,
}

/// Background threads of the record; dropping it ends them.
pub struct Recorder {
    health: Arc<Health>,
    pictures: Option<queue::Sender<Box<Picture>>>,
    stop: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    dir: PathBuf,
}

/// What the record says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// Entries that only the ring has; the next start takes them over.
    pub left_in_ring: u64,
    pub pictures_written: u64,
    pub pictures_lost: u64,
}

impl Recorder {
    /// Starts the threads on an open ring.
    pub fn spawn(config: &Config, ring: &Ring, hooks: Hooks) -> Result<Recorder, JournalError> {
        let recipe = |recipe: &Arc<Recipe>| {
            let rules = recipe
                .rules
                .reject_if
                .iter()
                .map(|rule| rule.text.clone())
                .collect();
            (recipe.name.clone(), rules)
        };
        let recipes = config.recipes.iter().map(recipe).collect();
        Recorder::spawn_for(
            About {
                station: config.station.id.clone(),
                recipes,
                record: config.record.clone(),
            },
            ring,
            hooks,
        )
    }

    /// As [`Recorder::spawn`], without a whole configuration.
    pub fn spawn_for(about: About, ring: &Ring, hooks: Hooks) -> Result<Recorder, JournalError> {
        let mut journal = Journal::open(ring.dir())?;
        let rules = |rules: &Vec<String>| serde_json::json!(rules).to_string();
        journal.describe_run(
            &about.station,
            about.recipes.iter().map(|(name, of)| (name.as_str(), rules(of))),
        )?;
        let health = Health::new(hooks.trouble);
        let (stop, stopped) = bounded(0);
        let (pictures, waiting) = queue::bounded(PICTURES_WAITING);
        let mut recorder = Recorder {
            health: Arc::clone(&health),
            pictures: Some(pictures),
            stop: Some(stop),
            threads: Vec::with_capacity(3),
            dir: ring.dir().to_owned(),
        };
        let keeper = Keeper::new(Arc::clone(ring.file()), Arc::clone(&health));
        let on = stopped.clone();
        recorder.thread("reserve", move || keeper.run(&on));
        let writer = JournalThread {
            file: Arc::clone(ring.file()),
            health: Arc::clone(&health),
            dir: ring.dir().into(),
        };
        recorder.thread("journal", move || writer.run(journal, &stopped));
        let thread = PictureThread::new(ring.dir(), &about.record, health, hooks.thumbnail);
        recorder.thread("pictures", move || thread.run(&waiting));
        Ok(recorder)
    }

    fn thread(&mut self, name: &str, run: impl FnOnce() + Send + 'static) {
        let builder = std::thread::Builder::new().name(name.into());
        self.threads.push(
            builder
                .spawn(run)
                .expect("the station starts its few threads before anything else"),
        );
    }

    /// Hands over the pictures of a part. Never waits; when too many wait already,
    /// this one is lost, counted, and the alarm goes up.
    pub fn picture(&self, picture: Box<Picture>) {
        let Some(queue) = &self.pictures else { return };
        match queue.try_send(picture) {
            Ok(()) => {}
            // Told by the keeper's thread: the caller may be the very one that listens to troubles.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.health.picture_dropped(),
        }
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Ends the account on purpose: everything goes into the journal and the pictures
    /// that wait are written. A disk that fails is given five seconds.
    pub fn finish(&mut self, ring: &mut Ring) -> Finished {
        ring.close(clock::now());
        self.end_threads();
        let file = ring.file();
        if let Err(error) = file.flush() {
            tracing::warn!("cannot flush the ring in {}: {error}", self.dir.display());
        }
        Finished {
            left_in_ring: file.written() - file.journaled(),
            pictures_written: self.health.pictures_written(),
            pictures_lost: self.health.pictures_lost(),
        }
    }

    fn end_threads(&mut self) {
        self.health.mute();
        self.pictures = None;
        self.stop = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the record panicked");
            }
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end_threads();
    }
}

/// Whether the owner wants the thread to end, after waiting `time` for it.
fn stopped_within(stop: &Receiver<()>, time: Duration) -> bool {
    !matches!(stop.recv_timeout(time), Err(RecvTimeoutError::Timeout))
}

/// Reserves part numbers well before they are needed and makes the ring's next pages ready.
struct Keeper {
    file: Arc<RingFile>,
    health: Arc<Health>,
    /// Records below this one have been made ready.
    touched: u64,
    /// Pictures dropped for want of room, when it was last looked at, and since when there were none.
    dropped: u64,
    calm_since: StdInstant,
}

impl Keeper {
    fn new(file: Arc<RingFile>, health: Arc<Health>) -> Keeper {
        Keeper {
            file,
            health,
            touched: 0,
            dropped: 0,
            calm_since: StdInstant::now(),
        }
    }

    fn run(mut self, stop: &Receiver<()>) {
        let mut wait = KEEPER;
        while !stopped_within(stop, wait) {
            wait = match self.reserve() {
                Ok(()) => KEEPER,
                Err(error) => {
                    self.health.failed(
                        Source::Reservation,
                        &format_args!("cannot reserve part numbers: {error}. The line stops when the reserved ones are used up"),
                    );
                    RETRY
                }
            };
            self.touch();
            self.watch_pictures();
        }
    }

    /// Raises the alarm when pictures were dropped, and ends it when none were for a while.
    fn watch_pictures(&mut self) {
        let dropped = self.health.pictures_dropped();
        if dropped != self.dropped {
            (self.dropped, self.calm_since) = (dropped, StdInstant::now());
            let why = "more pictures to keep than the disk takes: some are lost. Keep fewer (`record.passed`, \
                       `record.rejected`) or use a faster disk";
            self.health.failed(Source::PictureQueue, &why);
        } else if self.calm_since.elapsed() >= CALM {
            self.health.works(Source::PictureQueue);
        }
    }

    fn reserve(&self) -> std::io::Result<()> {
        let reserved = self.file.reserved_until();
        if reserved.0 - self.file.last_part().0 <= BLOCK_OF_NUMBERS {
            self.file.reserve(PartId(reserved.0 + BLOCK_OF_NUMBERS))?;
            self.health.works(Source::Reservation);
        }
        Ok(())
    }

    fn touch(&mut self) {
        let next = self.file.written() + 1;
        let until = next + TOUCH_AHEAD.min(self.file.capacity() / 2);
        let from = self.touched.max(next);
        if from < until {
            self.file.touch_ahead(from, until - from);
            self.touched = until;
        }
    }
}

/// Brings the journal up to the ring, ten times a second.
struct JournalThread {
    file: Arc<RingFile>,
    health: Arc<Health>,
    dir: PathBuf,
}

impl JournalThread {
    fn run(self, journal: Journal, stop: &Receiver<()>) {
        let mut journal = Some(journal);
        let mut wait = BATCH;
        while !stopped_within(stop, wait) {
            wait = if self.catch_up(&mut journal, None) {
                BATCH
            } else {
                RETRY
            };
        }
        self.catch_up(&mut journal, Some(StdInstant::now() + FINISH));
    }

    /// Writes all that the journal lacks; `false` when it failed. With `until`, tries again until then.
    fn catch_up(&self, journal: &mut Option<Journal>, until: Option<StdInstant>) -> bool {
        let mut batch = Vec::new();
        loop {
            self.watch_backlog();
            let (from, to) = (self.file.journaled() + 1, self.file.written());
            if from > to {
                return true;
            }
            match self.write(journal, &mut batch, from, to.min(from + BATCH_MAX - 1)) {
                Ok(sequence) => {
                    self.file.set_journaled(sequence);
                    self.health.works(Source::Journal);
                }
                Err(error) => {
                    // A connection that failed may not see the repair: a fresh one is made.
                    *journal = None;
                    self.health.failed(
                        Source::Journal,
                        &format_args!("{error}. The line goes on; the entries are kept in the ring and taken over when the journal can be written again"),
                    );
                    if until.is_none_or(|end| StdInstant::now() > end) {
                        return false;
                    }
                    std::thread::sleep(RETRY);
                }
            }
        }
    }

    fn write(
        &self,
        journal: &mut Option<Journal>,
        batch: &mut Vec<Record>,
        from: u64,
        to: u64,
    ) -> Result<u64, JournalError> {
        let journal = match journal {
            Some(open) => open,
            None => journal.insert(Journal::open(&self.dir)?),
        };
        batch.clear();
        for sequence in from..=to {
            // Damaged in memory or overwritten from outside; the next start sorts it out.
            let damaged = || JournalError::Damaged {
                path: self.dir.join("ring"),
                sequence,
            };
            batch.push(self.file.read(sequence).ok_or_else(damaged)?);
        }
        journal.write(batch, self.file.reserved_until())?;
        Ok(to)
    }

    fn watch_backlog(&self) {
        let (behind, capacity) = (self.file.written() - self.file.journaled(), self.file.capacity());
        if behind > capacity / 4 * 3 {
            let why = format_args!(
                "the journal is {behind} entries behind and the ring holds {capacity}: the belt stops before entries are lost"
            );
            self.health.failed(Source::Backlog, &why);
        } else if behind < capacity / 2 {
            self.health.works(Source::Backlog);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pictures::{self, Square};
    use super::*;
    use crate::config::Keep;
    use crate::record::ring::tests::{ended, judged, seen};
    use crate::record::{Options, Span};
    use crate::station::event::{Counts, Fate};
    use crate::status::Thumbnail;
    use std::path::Path;
    use std::sync::Mutex;

    /// The thumbnails that the recorder has handed over.
    type Seen = Arc<Mutex<Vec<(PartId, Arc<Thumbnail>)>>>;

    fn spawn(dir: &Path, ring: &Ring, thumbnails: &Seen) -> Recorder {
        let record = config::Record {
            path: dir.into(),
            rejected: Keep::All,
            passed: Keep::None,
            keep_free_percent: 0,
        };
        let recipes = vec![("cap".to_owned(), vec!["scratch >= 0.6".to_owned()])];
        let log = Arc::clone(thumbnails);
        let hooks = Hooks {
            trouble: Box::new(|trouble, present| panic!("{trouble:?} {present}")),
            thumbnail: Box::new(move |part, picture| log.lock().unwrap().push((part, picture))),
        };
        Recorder::spawn_for(
            About {
                station: "L3".into(),
                recipes,
                record,
            },
            ring,
            hooks,
        )
        .unwrap()
    }

    fn picture(part: u64, rejected: bool, keep: bool) -> Box<Picture> {
        let square = Square {
            side: 32,
            rgb: vec![90; 32 * 32 * 3],
        };
        Box::new(Picture {
            part: PartId(part),
            rejected,
            keep,
            classify: Some(square),
            ..Picture::default()
        })
    }

    #[test]
    fn a_run_ends_with_everything_in_the_journal_and_the_next_one_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            capacity: 4_096,
            ..Options::default()
        };
        let (mut ring, resume) = Ring::open_with(dir.path(), options).unwrap();
        let thumbnails = Arc::default();
        let mut recorder = spawn(dir.path(), &ring, &thumbnails);
        let first = resume.next_part.0;
        for part in first..first + 100 {
            ring.append(&seen(part)).unwrap();
            ring.append(&judged(part, false)).unwrap();
            let fate = if part % 10 == 0 {
                Fate::Confirmed
            } else {
                Fate::Passed { verified: true }
            };
            ring.append(&ended(part, fate)).unwrap();
        }
        recorder.picture(picture(first, true, true));
        recorder.picture(picture(first + 1, true, false));
        recorder.picture(picture(first + 2, false, true));
        let finished = recorder.finish(&mut ring);
        assert_eq!(
            finished,
            Finished {
                left_in_ring: 0,
                pictures_written: 2,
                pictures_lost: 0
            }
        );
        let shown: Vec<_> = thumbnails
            .lock()
            .unwrap()
            .iter()
            .map(|(part, _)| part.0)
            .collect();
        assert_eq!(
            shown,
            [first, first + 1],
            "each rejected part is shown, kept or not"
        );
        let expected = Counts {
            seen: 100,
            confirmed: 10,
            passed: 90,
            ..Counts::default()
        };
        let summary = Journal::summary(dir.path(), Span::LastRun).unwrap();
        assert_eq!(
            (summary.counts, summary.station.as_deref(), summary.runs),
            (expected, Some("L3"), 1)
        );
        assert_eq!(
            std::fs::read_dir(pictures::folder(dir.path())).unwrap().count(),
            1
        );
        drop(ring);
        let (_, resume) = Ring::open_with(dir.path(), options).unwrap();
        assert_eq!(
            (resume.counts, resume.unaccounted, resume.next_part.0),
            (expected, 0, first + 100)
        );
    }

    #[test]
    fn reservations_run_ahead_of_the_parts() {
        let dir = tempfile::tempdir().unwrap();
        let (mut ring, resume) = Ring::open_with(dir.path(), Options::default()).unwrap();
        let _recorder = spawn(dir.path(), &ring, &Arc::default());
        // Ten times what was reserved at the start; waits where a line would be far slower.
        let mut waits = 0;
        for part in resume.next_part.0..resume.next_part.0 + 20 * BLOCK_OF_NUMBERS {
            while ring.append(&seen(part)).is_err() {
                waits += 1;
                assert!(waits < 60_000, "nothing is reserved");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(ring.counts().seen, 20 * BLOCK_OF_NUMBERS);
    }
}
