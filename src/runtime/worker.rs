//! An inference thread: takes jobs, answers each exactly once.

use super::Message;
use super::drafts::Drafts;
use crate::infer::inspection::Inspection;
use crate::infer::inspector::Inspector;
use crate::queue::{Receiver, Sender};
use crate::service::Beat;
use crate::station::event::{Event, InspectFault, InspectJob};
use crate::vision::frame::Frame;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// An [`InspectJob`] with its frame.
pub struct Job {
    pub job: InspectJob,
    pub frame: Arc<Frame>,
    pub locate_us: u32,
}

/// Runs until the job queue closes. `inspectors` has one entry per recipe, in their order.
pub fn run(
    jobs: &Receiver<Job>,
    answers: &Sender<Message>,
    mut inspectors: Vec<Inspector>,
    drafts: &Drafts,
    beat: &Beat,
) {
    beat.idle();
    while let Some(job) = jobs.recv() {
        beat.tick();
        let part = job.job.part;
        let result = inspect(&mut inspectors, &job, drafts);
        // The frame's buffer goes back before the core hears of the result.
        drop(job);
        // Blocking is right here: an answer must not be lost, and the core never waits for a worker.
        if answers
            .send(Message::Event(Event::Inspected { part, result }))
            .is_err()
        {
            return;
        }
        beat.idle();
    }
}

fn inspect(inspectors: &mut [Inspector], job: &Job, drafts: &Drafts) -> Result<Inspection, InspectFault> {
    let inspector = inspectors
        .get_mut(usize::from(job.job.recipe.0))
        .ok_or(InspectFault::Model)?;
    // A panic inside a model must cost one part its verdict, not the line its station.
    let mut inspection = catch_unwind(AssertUnwindSafe(|| inspector.inspect(&job.frame, job.job.blob)))
        .unwrap_or_else(|_| {
            tracing::error!(part = job.job.part.0, "the model panicked");
            Err(InspectFault::Model)
        })?;
    inspection.times.locate_us = job.locate_us;
    drafts.put(job.job.part, job.job.recipe, &inspector.inputs());
    Ok(inspection)
}
