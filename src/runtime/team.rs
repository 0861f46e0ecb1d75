//! The threads that share an inference, and where those that compute may run: never where they hold up an output.

use crate::device::realtime::{beside, keep_to, ordinary_priority, processors_of};
use crate::kernels::team::Team;
use crate::outputs::link::Link;
use anyhow::{Context, Result};
use std::sync::Arc;
use std::thread::JoinHandle;

/// `None` when one thread does all.
pub fn start(threads: usize) -> Result<Option<Arc<Team>>> {
    if threads < 2 {
        return Ok(None);
    }
    let team = Team::new(threads).context("cannot start the threads of the inference")?;
    Ok(Some(Arc::new(team)))
}

/// Takes real-time priority from helpers and workers: both look for each other's work for a moment before they sleep.
/// Keeps them off the processors that the output process is bound to. Where it is bound to none, its priority sends
/// them away when it needs theirs.
pub fn settle(link: &Link, team: Option<&Team>, workers: &[JoinHandle<()>]) -> Result<()> {
    let helpers = team.map_or(&[][..], |team| team.helpers());
    for thread in helpers.iter().chain(workers) {
        ordinary_priority(thread).context("cannot give a thread of the inference ordinary priority")?;
    }
    let kept = processors_of(None).and_then(|own| {
        let rest = beside(&own, &link.processors()?);
        helpers
            .iter()
            .chain(workers)
            .try_for_each(|thread| keep_to(thread, &rest))?;
        Ok(rest.count() as usize)
    });
    let threads = helpers.len() + 1;
    match kept {
        Ok(left) if left < threads => tracing::warn!(
            "{threads} threads share an inference, and beside the output process there are {left} processors for them: \
             it takes longer than with [inference] threads = {left}"
        ),
        Ok(_) => {}
        Err(error) => tracing::info!("inference may run on the processors of the output process: {error}"),
    }
    Ok(())
}
