//! The journal: what the ring held, in SQLite, for people and for ever.
//!
//! **Durability.** WAL with `synchronous = FULL`: each commit waits for the disk.
//! With NORMAL a power loss would take back every commit since the last
//! checkpoint, minutes of parts; invariant 1 promises that at most the last batch
//! (≤ 200 ms) is missing. The wait falls on the journal's own thread, and batches
//! keep it to a few per second.
//!
//! **Idempotence.** The sequence of the last entry and the account are committed
//! with the entries, so that catching up from the ring after a crash starts where
//! it ended, and an entry is never counted twice.

use super::entry_codec::Line;
use super::recovery::{JournalState, Recovery};
use super::ring_file::Record;
use super::system;
use crate::station::event::{AlarmKind, Counts, Entry, Fate, NoResult, Stray, Trouble, Unaccounted, Verdict};
use crate::units::{Instant, PartId};
use rusqlite::{Connection, OpenFlags, Transaction, params};
use std::path::{Path, PathBuf};

const FILE: &str = "journal.sqlite";
const SCHEMA_VERSION: i64 = 1;
/// How long a commit waits for a person's SQL tool to let go of the file. Nobody waits for the commit.
const BUSY: std::time::Duration = std::time::Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the journal {}: {cause}{}", .path.display(), advice(.cause))]
    Sql { path: PathBuf, cause: rusqlite::Error },
    #[error("the journal {} was written by a newer elek (schema {version}; this one knows {SCHEMA_VERSION}). Use that elek, or another `record.path`", .path.display())]
    Newer { path: PathBuf, version: i64 },
    #[error("the journal {} stands at entry {has} and was given {got}: entries between them are missing", .path.display())]
    Hole { path: PathBuf, has: u64, got: u64 },
    #[error("entry {sequence} of {} is damaged: did something else write to it? Stop the station and start it again", .path.display())]
    Damaged { path: PathBuf, sequence: u64 },
}

fn advice(error: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ". The disk is full: make room",
        Some(ErrorCode::ReadOnly) => {
            ". It cannot be written: is the file system read-only, or the owner another user?"
        }
        Some(ErrorCode::CannotOpen) => ". May this user write to the folder?",
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            ". It is damaged: move it away together with its -wal and -shm and start again; the counts go on from the ring"
        }
        Some(ErrorCode::DatabaseBusy) => ". Another program holds it: close your SQL tool",
        Some(ErrorCode::SystemIoFailure) => ". The disk reports a failure",
        _ => "",
    }
}

/// The open database.
#[derive(Debug)]
pub struct Journal {
    db: Connection,
    path: PathBuf,
    /// The run that new entries belong to.
    run: i64,
    state: Standing,
}

/// Where the journal stands; kept so that a batch need not ask.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    sequence: u64,
    last_part: PartId,
}

impl Journal {
    /// Where the journal of a record folder lies.
    pub fn path(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    /// Opens the journal in `dir` for writing; makes it if missing.
    pub fn open(dir: &Path) -> Result<Journal, JournalError> {
        let path = Journal::path(dir);
        let failed = |cause| JournalError::Sql {
            path: path.clone(),
            cause,
        };
        let db = Connection::open(&path).map_err(failed)?;
        configure(&db).map_err(failed)?;
        let version: i64 = db
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(failed)?;
        if version > SCHEMA_VERSION {
            return Err(JournalError::Newer { path, version });
        }
        if version == 0 {
            let make = format!(
                "BEGIN; {} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;",
                include_str!("schema.sql")
            );
            db.execute_batch(&make).map_err(failed)?;
        }
        let mut journal = Journal {
            db,
            path,
            run: 0,
            state: Standing::default(),
        };
        let state = journal.state()?;
        journal.state = Standing {
            sequence: state.sequence,
            last_part: state.last_part,
        };
        journal.run = journal
            .db
            .query_row("SELECT coalesce(max(run), 0) FROM runs", [], |row| row.get(0))
            .map_err(|cause| JournalError::Sql {
                path: journal.path.clone(),
                cause,
            })?;
        Ok(journal)
    }

    /// The last state that was committed.
    pub fn state(&self) -> Result<JournalState, JournalError> {
        read_state(&self.db).map_err(|cause| self.failed(cause))
    }

    /// Takes over after the last run ended, in one step: what the ring had more, the
    /// parts that are now unaccounted, and the new run.
    pub fn take_over(
        &mut self,
        recovery: &Recovery,
        replay: &[Record],
        reserved_until: PartId,
    ) -> Result<(), JournalError> {
        let old_run = self.run;
        self.transact(|tx, standing| {
            for record in replay {
                write_line(tx, old_run, record, standing)?;
            }
            let run = old_run + 1;
            new_run(tx, run, recovery)?;
            for part in &recovery.in_flight {
                end_part(tx, old_run, *part, Fate::Unaccounted(Unaccounted::Restart), recovery.line.at)?;
            }
            for part in recovery.lost.clone().into_iter().flatten() {
                tx.prepare_cached(
                    "INSERT INTO parts (part, run, fate, fate_detail) VALUES (?1, ?2, 'unaccounted', 'record_lost')
                     ON CONFLICT (part) DO NOTHING",
                )?
                .execute(params![part as i64, old_run])?;
            }
            let detail = format!("{} on the belt, {} without record", recovery.line.in_flight, recovery.line.lost);
            event(tx, run, recovery.sequence, "opened", Some(&detail), recovery.line.at)?;
            standing.sequence = recovery.sequence;
            standing.last_part = PartId(recovery.resume.next_part.0 - 1);
            write_account(tx, standing, &recovery.resume.counts, reserved_until)
        })?;
        self.run = old_run + 1;
        Ok(())
    }

    /// Commits entries that follow on what the journal has; older ones are passed over.
    pub fn write(&mut self, records: &[Record], reserved_until: PartId) -> Result<(), JournalError> {
        let Some(last) = records.last() else { return Ok(()) };
        let (run, has) = (self.run, self.state.sequence);
        let fresh = &records[records.partition_point(|record| record.sequence <= has)..];
        if let Some(first) = fresh.first().filter(|first| first.sequence != has + 1) {
            return Err(JournalError::Hole {
                path: self.path.clone(),
                has,
                got: first.sequence,
            });
        }
        self.transact(|tx, standing| {
            for record in fresh {
                write_line(tx, run, record, standing)?;
            }
            standing.sequence = standing.sequence.max(last.sequence);
            if fresh.is_empty() {
                Ok(())
            } else {
                write_account(tx, standing, &last.counts, reserved_until)
            }
        })
    }

    /// Notes the station's name and recipes for this run, so that its rows can be read without its config.
    pub fn describe_run<'a>(
        &mut self,
        station: &str,
        recipes: impl Iterator<Item = (&'a str, String)>,
    ) -> Result<(), JournalError> {
        let run = self.run;
        self.transact(|tx, _| {
            tx.execute(
                "UPDATE runs SET station = ?1 WHERE run = ?2",
                params![station, run],
            )?;
            for (index, (name, reject_if)) in recipes.enumerate() {
                tx.execute(
                    "INSERT OR REPLACE INTO recipes (run, recipe, name, reject_if) VALUES (?1, ?2, ?3, ?4)",
                    params![run, index as i64, name, reject_if],
                )?;
            }
            Ok(())
        })
    }

    fn transact(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, &mut Standing) -> rusqlite::Result<()>,
    ) -> Result<(), JournalError> {
        let path = &self.path;
        let failed = |cause| JournalError::Sql {
            path: path.clone(),
            cause,
        };
        let mut standing = self.state;
        let tx = self.db.transaction().map_err(failed)?;
        work(&tx, &mut standing).map_err(failed)?;
        tx.commit().map_err(failed)?;
        self.state = standing;
        Ok(())
    }

    fn failed(&self, cause: rusqlite::Error) -> JournalError {
        JournalError::Sql {
            path: self.path.clone(),
            cause,
        }
    }
}

fn configure(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    // 1 MiB of pages is plenty for appending; the default of 2 MiB is memory the models can use.
    db.pragma_update(None, "cache_size", -1024)
}

/// Opens the journal of a record folder for reading, beside a station that may be writing it.
pub(super) fn open_to_read(dir: &Path) -> Result<Connection, JournalError> {
    let path = Journal::path(dir);
    let open = || {
        let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        db.busy_timeout(BUSY)?;
        Ok(db)
    };
    open().map_err(|cause| JournalError::Sql {
        path: path.clone(),
        cause,
    })
}

fn read_state(db: &Connection) -> rusqlite::Result<JournalState> {
    let number = |row: &rusqlite::Row<'_>, column: usize| row.get::<_, i64>(column).map(|value| value as u64);
    let mut state = db.query_row(
        "SELECT sequence, last_part, reserved_until, seen, passed, confirmed, unconfirmed, collateral, escaped,
                unaccounted, in_flight, late FROM account",
        [],
        |row| {
            Ok(JournalState {
                sequence: number(row, 0)?,
                last_part: PartId(number(row, 1)?),
                reserved_until: PartId(number(row, 2)?),
                counts: Counts {
                    seen: number(row, 3)?,
                    passed: number(row, 4)?,
                    confirmed: number(row, 5)?,
                    unconfirmed: number(row, 6)?,
                    collateral: number(row, 7)?,
                    escaped: number(row, 8)?,
                    unaccounted: number(row, 9)?,
                    in_flight: number(row, 10)?,
                    late: number(row, 11)?,
                },
                in_flight: Vec::new(),
            })
        },
    )?;
    let mut open = db.prepare("SELECT part FROM parts WHERE fate IS NULL ORDER BY part")?;
    let parts = open.query_map([], |row| number(row, 0).map(PartId))?;
    state.in_flight = parts.collect::<rusqlite::Result<_>>()?;
    Ok(state)
}

fn write_account(
    tx: &Transaction<'_>,
    at: &Standing,
    counts: &Counts,
    reserved: PartId,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "UPDATE account SET sequence = ?1, last_part = ?2, reserved_until = ?3, seen = ?4, passed = ?5, confirmed = ?6,
         unconfirmed = ?7, collateral = ?8, escaped = ?9, unaccounted = ?10, in_flight = ?11, late = ?12",
    )?
    .execute(params![
        at.sequence as i64,
        at.last_part.0 as i64,
        reserved.0 as i64,
        counts.seen as i64,
        counts.passed as i64,
        counts.confirmed as i64,
        counts.unconfirmed as i64,
        counts.collateral as i64,
        counts.escaped as i64,
        counts.unaccounted as i64,
        counts.in_flight as i64,
        counts.late as i64,
    ])?;
    Ok(())
}

fn new_run(tx: &Transaction<'_>, run: i64, recovery: &Recovery) -> rusqlite::Result<()> {
    let skipped = recovery.skipped.as_ref();
    tx.execute(
        "INSERT INTO runs (run, elek, started_ms, started_us, first_part, found_in_flight, found_lost, power_loss,
         skipped_from, skipped_to) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            run,
            env!("CARGO_PKG_VERSION"),
            system::wall_ms(),
            recovery.line.at.as_micros(),
            recovery.resume.next_part.0 as i64,
            recovery.line.in_flight as i64,
            recovery.line.lost as i64,
            recovery.line.power_loss,
            skipped.map(|range| *range.start() as i64),
            skipped.map(|range| *range.end() as i64),
        ],
    )?;
    Ok(())
}

/// One line into its table.
fn write_line(tx: &Transaction<'_>, run: i64, record: &Record, at: &mut Standing) -> rusqlite::Result<()> {
    at.sequence = record.sequence;
    match &record.line {
        Line::Entry(entry) => write_entry(tx, run, record.sequence, entry, at),
        Line::Opened(opened) => {
            at.last_part = at.last_part.max(PartId(opened.next_part.0.saturating_sub(1)));
            event(tx, run, record.sequence, "opened", None, opened.at)
        }
        Line::Closed { at, .. } => {
            tx.execute(
                "UPDATE runs SET ended_ms = ?1 WHERE run = ?2",
                params![system::wall_ms(), run],
            )?;
            event(tx, run, record.sequence, "closed", None, *at)
        }
    }
}

fn write_entry(
    tx: &Transaction<'_>,
    run: i64,
    sequence: u64,
    entry: &Entry,
    standing: &mut Standing,
) -> rusqlite::Result<()> {
    match entry {
        Entry::Seen {
            part,
            lane,
            at,
            position,
            recipe,
        } => {
            standing.last_part = standing.last_part.max(*part);
            tx.prepare_cached(
                "INSERT INTO parts (part, sequence, run, lane, recipe, seen_us, position_um)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                part.0 as i64,
                sequence as i64,
                run,
                lane.0,
                recipe.0,
                at.as_micros(),
                position.as_micrometres()
            ])?;
        }
        Entry::Judged { .. } => judged(tx, run, entry)?,
        Entry::Planned {
            part,
            pulse,
            on_at,
            off_at,
        } => {
            upsert(tx, run, *part)?;
            tx.prepare_cached("UPDATE parts SET pulse = ?2, on_us = ?3, off_us = ?4 WHERE part = ?1")?
                .execute(params![
                    part.0 as i64,
                    pulse.0 as i64,
                    on_at.as_micros(),
                    off_at.as_micros()
                ])?;
        }
        Entry::Fired {
            pulse,
            planned_on,
            actual_on,
            planned_off,
            actual_off,
        } => {
            tx.prepare_cached("INSERT INTO pulses VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
                .execute(params![
                    sequence as i64,
                    run,
                    pulse.0 as i64,
                    planned_on.as_micros(),
                    actual_on.as_micros(),
                    planned_off.as_micros(),
                    actual_off.as_micros()
                ])?;
        }
        Entry::Ended { part, fate, at } => end_part(tx, run, *part, *fate, *at)?,
        Entry::Alarm { alarm, raised, at } => {
            tx.prepare_cached("INSERT INTO alarms VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![
                    sequence as i64,
                    run,
                    alarm_word(*alarm),
                    raised,
                    at.as_micros()
                ])?;
        }
        Entry::Stray { stray, at } => event(tx, run, sequence, "stray", Some(stray_word(*stray)), *at)?,
        Entry::Acknowledged { at } => event(tx, run, sequence, "acknowledged", None, *at)?,
        Entry::Changeover { recipe, at } => {
            event(tx, run, sequence, "changeover", Some(&recipe.to_string()), *at)?;
        }
        Entry::Permit { on, at } => event(
            tx,
            run,
            sequence,
            "permit",
            Some(if *on { "on" } else { "off" }),
            *at,
        )?,
    }
    Ok(())
}

/// A row for a part of which the beginning was overwritten before a new journal began.
fn upsert(tx: &Transaction<'_>, run: i64, part: PartId) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT INTO parts (part, run) VALUES (?1, ?2) ON CONFLICT (part) DO NOTHING")?
        .execute(params![part.0 as i64, run])?;
    Ok(())
}

fn judged(tx: &Transaction<'_>, run: i64, entry: &Entry) -> rusqlite::Result<()> {
    let Entry::Judged {
        part,
        verdict,
        will_reject,
        at,
        late,
        margin,
    } = entry
    else {
        return Ok(());
    };
    upsert(tx, run, *part)?;
    let (word, detail, reason) = match verdict {
        Verdict::Pass => ("pass", None, None),
        Verdict::Reject(reason) => ("reject", None, Some(reason)),
        Verdict::Unsure => ("unsure", None, None),
        Verdict::NoResult(why) => ("no_result", Some(no_result_word(*why)), None),
    };
    tx.prepare_cached(
        "UPDATE parts SET verdict = ?2, detail = ?3, rule = ?4, measured = ?5, will_reject = ?6,
         late = max(coalesce(late, 0), ?7), judged_us = ?8, margin_us = ?9 WHERE part = ?1",
    )?
    .execute(params![
        part.0 as i64,
        word,
        detail,
        reason.map(|r| r.rule),
        reason.map(|r| f64::from(r.measured)),
        will_reject,
        late,
        at.as_micros(),
        margin.get()
    ])?;
    Ok(())
}

fn end_part(tx: &Transaction<'_>, run: i64, part: PartId, fate: Fate, at: Instant) -> rusqlite::Result<()> {
    upsert(tx, run, part)?;
    let detail = match fate {
        Fate::Passed { verified: true } => Some("verified"),
        Fate::Unaccounted(why) => Some(match why {
            Unaccounted::Missing => "missing",
            Unaccounted::Restart => "restart",
            Unaccounted::LostPosition => "lost_position",
            Unaccounted::LedgerFull => "ledger_full",
        }),
        _ => None,
    };
    tx.prepare_cached("UPDATE parts SET fate = ?2, fate_detail = ?3, ended_us = ?4 WHERE part = ?1")?
        .execute(params![part.0 as i64, fate.word(), detail, at.as_micros()])?;
    Ok(())
}

fn event(
    tx: &Transaction<'_>,
    run: i64,
    sequence: u64,
    event: &str,
    detail: Option<&str>,
    at: Instant,
) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![sequence as i64, run, event, detail, at.as_micros()])?;
    Ok(())
}

fn no_result_word(why: NoResult) -> &'static str {
    match why {
        NoResult::Late => "late",
        NoResult::NoFrame => "no_frame",
        NoResult::NotFound => "not_found",
        NoResult::Ambiguous => "ambiguous",
        NoResult::Fault => "fault",
    }
}

fn stray_word(stray: Stray) -> &'static str {
    match stray {
        Stray::FrameWithoutTrigger => "frame_without_trigger",
        Stray::PassedEyeWithoutPart => "passed_eye_without_part",
        Stray::ChuteEyeWithoutReject => "chute_eye_without_reject",
        Stray::DuplicateFrame => "duplicate_frame",
    }
}

/// One word for an alarm, for journals and scripts.
pub fn alarm_word(alarm: AlarmKind) -> &'static str {
    match alarm {
        AlarmKind::AcknowledgeNeeded => "acknowledge_needed",
        AlarmKind::PartsUnaccounted => "parts_unaccounted",
        AlarmKind::RejectNotConfirmed => "reject_not_confirmed",
        AlarmKind::Escape => "escape",
        AlarmKind::GoodPartMissing => "good_part_missing",
        AlarmKind::BinFull => "bin_full",
        AlarmKind::AirLow => "air_low",
        AlarmKind::ConsecutiveRejects => "consecutive_rejects",
        AlarmKind::CameraLost => "camera_lost",
        AlarmKind::OutputsLost => "outputs_lost",
        AlarmKind::LedgerFull => "ledger_full",
        AlarmKind::LateResult => "late_result",
        AlarmKind::BeltSpeed => "belt_speed",
        AlarmKind::EncoderSlip => "encoder_slip",
        AlarmKind::BeltBackward => "belt_backward",
        AlarmKind::PulseFault => "pulse_fault",
        AlarmKind::PartWithoutTrigger => "part_without_trigger",
        AlarmKind::SensorStuck => "sensor_stuck",
        AlarmKind::Trouble(Trouble::Record) => "record",
        AlarmKind::Trouble(Trouble::DiskLow) => "disk_low",
        AlarmKind::Trouble(Trouble::Display) => "display",
        AlarmKind::Trouble(Trouble::Queue) => "queue",
        AlarmKind::Trouble(Trouble::EdgesLost) => "edges_lost",
        AlarmKind::Trouble(Trouble::LinesLost) => "lines_lost",
    }
}
