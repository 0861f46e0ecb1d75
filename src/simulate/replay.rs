//! Feeds the events of a trace to a station core again.

use super::check::{Checker, Failure};
use super::trace::Line;
use super::virtual_run::{PlantedBug, describe, guarded};
use crate::station::Station;
use crate::station::event::Action;

/// What a replay came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The failure that the trace ends with.
    Same(Failure),
    /// Another one, or one in a trace that ends without.
    Other {
        expected: Option<Failure>,
        found: Failure,
    },
    /// The trace ends with a failure that does not come again: the core has changed.
    Gone(Failure),
    /// No failure, as in the trace.
    Nothing,
}

/// Replays a trace that was read with [`super::trace::read`].
pub fn replay_file(lines: &[Line]) -> Outcome {
    replay(lines, None)
}

/// As [`replay_file`]; with a planted bug, a trace that was made with it.
pub(crate) fn replay(lines: &[Line], bug: Option<PlantedBug>) -> Outcome {
    let expected = lines.iter().find_map(|line| match line {
        Line::Failure(failure) => Some(failure.clone()),
        _ => None,
    });
    match (expected, again(lines, bug)) {
        (Some(expected), Err(found)) if expected == found => Outcome::Same(found),
        (expected, Err(found)) => Outcome::Other { expected, found },
        (Some(expected), Ok(())) => Outcome::Gone(expected),
        (None, Ok(())) => Outcome::Nothing,
    }
}

fn again(lines: &[Line], bug: Option<PlantedBug>) -> Result<(), Failure> {
    let Some(Line::Seed { seed, .. }) = lines.first() else {
        return Ok(());
    };
    let config = describe(*seed).0.config;
    let mut checker = Checker::new(config.clone());
    let mut station: Option<Station> = None;
    let mut actions: Vec<Action> = Vec::new();
    for line in lines {
        match line {
            Line::Start { now, resume } => {
                let mut new = Station::new(config.clone(), *resume, *now);
                super::virtual_run::plant(bug, &mut new);
                station = Some(new);
                checker.started(*now, &resume.counts);
            }
            Line::Event { now, event, cut } => {
                let Some(core) = &mut station else { continue };
                actions.clear();
                guarded(core, *now, event, &mut actions)?;
                actions.truncate(cut.unwrap_or(actions.len()));
                let core = station.as_ref().filter(|_| cut.is_none());
                checker.handled(*now, event, &actions, core)?;
            }
            Line::Died { now } => {
                checker.died(*now);
                station = None;
            }
            Line::Shown { frame, blobs } => checker.shown(*frame, blobs.iter().copied()),
            Line::Truth(note) => checker.truth(note)?,
            Line::Fault { now, fault } => checker.fault(*now, fault),
            Line::Calm { now } => checker.calm(*now),
            Line::Over { now } => checker.over(*now, station.as_ref())?,
            Line::Seed { .. } | Line::Did(_) | Line::Failure(_) => {}
        }
    }
    Ok(())
}
