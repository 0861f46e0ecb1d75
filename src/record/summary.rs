//! What a run did, read back from the journal.

use super::journal::{Journal, JournalError, open_to_read};
use crate::station::event::Counts;
use rusqlite::{Connection, params};
use serde::Serialize;
use std::path::Path;

/// One run, or the whole journal, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub station: Option<String>,
    /// Runs counted in.
    pub runs: u64,
    pub counts: Counts,
    pub unsure: u64,
    pub no_result: u64,
    /// Smallest time that was left before a reject had to be planned.
    pub margin_us_min: Option<i64>,
    pub pulses: u64,
    /// Largest difference between planned and actual begin of a pulse.
    pub pulse_error_us_max: Option<i64>,
    /// How often each alarm was raised, most often first.
    pub alarms: Vec<(String, u64)>,
    pub strays: u64,
    /// Numbers that were reserved when power was lost and have no record.
    pub skipped_numbers: u64,
}

/// Which part of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    LastRun,
    Everything,
}

impl Journal {
    /// Sums up the journal in a record folder; may be called beside a running station.
    pub fn summary(dir: &Path, span: Span) -> Result<Summary, JournalError> {
        let db = open_to_read(dir)?;
        read(&db, span).map_err(|cause| JournalError::Sql {
            path: Journal::path(dir),
            cause,
        })
    }
}

fn read(db: &Connection, span: Span) -> rusqlite::Result<Summary> {
    // One transaction, so that all numbers are of the same moment.
    let db = db.unchecked_transaction()?;
    let last: i64 = db.query_row("SELECT coalesce(max(run), 0) FROM runs", [], |row| row.get(0))?;
    let first = match span {
        Span::LastRun => last,
        Span::Everything => 0,
    };
    let number = |sql: &str| db.query_row(sql, params![first], |row| row.get::<_, Option<i64>>(0));
    let count = |sql: &str| number(sql).map(|n| n.unwrap_or(0).max(0) as u64);
    let mut summary = Summary {
        station: db
            .query_row("SELECT station FROM runs WHERE run = ?1", params![last], |row| {
                row.get(0)
            })
            .or_else(|error| {
                if error == rusqlite::Error::QueryReturnedNoRows {
                    Ok(None)
                } else {
                    Err(error)
                }
            })?,
        runs: count("SELECT count(*) FROM runs WHERE run >= ?1")?,
        unsure: count("SELECT count(*) FROM parts WHERE run >= ?1 AND verdict = 'unsure'")?,
        no_result: count("SELECT count(*) FROM parts WHERE run >= ?1 AND verdict = 'no_result'")?,
        margin_us_min: number("SELECT min(margin_us) FROM parts WHERE run >= ?1 AND will_reject = 1")?,
        pulses: count("SELECT count(*) FROM pulses WHERE run >= ?1")?,
        pulse_error_us_max: number(
            "SELECT max(abs(actual_on_us - planned_on_us)) FROM pulses WHERE run >= ?1",
        )?,
        strays: count("SELECT count(*) FROM events WHERE run >= ?1 AND event = 'stray'")?,
        skipped_numbers: count("SELECT sum(skipped_to - skipped_from + 1) FROM runs WHERE run >= ?1")?,
        ..Summary::default()
    };
    summary.counts = counts(&db, first)?;
    let mut alarms = db.prepare(
        "SELECT alarm, count(*) FROM alarms WHERE run >= ?1 AND raised = 1 GROUP BY alarm ORDER BY 2 DESC, 1",
    )?;
    let rows = alarms.query_map(params![first], |row| {
        Ok((row.get(0)?, row.get::<_, i64>(1)? as u64))
    })?;
    summary.alarms = rows.collect::<rusqlite::Result<_>>()?;
    drop(alarms);
    Ok(summary)
}

/// The account, counted from the rows and not from the running counts.
fn counts(db: &Connection, first_run: i64) -> rusqlite::Result<Counts> {
    let mut counts = Counts::default();
    let mut fates =
        db.prepare("SELECT fate, count(*), sum(coalesce(late, 0)) FROM parts WHERE run >= ?1 GROUP BY fate")?;
    let mut rows = fates.query(params![first_run])?;
    while let Some(row) = rows.next()? {
        let fate: Option<String> = row.get(0)?;
        let n = row.get::<_, i64>(1)? as u64;
        counts.seen += n;
        counts.late += row.get::<_, i64>(2)? as u64;
        match fate.as_deref() {
            Some("passed") => counts.passed += n,
            Some("confirmed") => counts.confirmed += n,
            Some("unconfirmed") => counts.unconfirmed += n,
            Some("collateral") => counts.collateral += n,
            Some("escaped") => counts.escaped += n,
            Some(_) => counts.unaccounted += n,
            None => counts.in_flight += n,
        }
    }
    Ok(counts)
}
