//! The core thread: feeds the [`Station`] one event at a time and carries out
//! what it asks for, in its order.

use super::drafts::Drafts;
use super::publish::Publisher;
use super::worker::Job;
use super::{Message, Overflow};
use crate::config::Config;
use crate::device::clock::Clock;
use crate::outputs::link::{Link, LinkStatus};
use crate::queue::{Receiver, Sender};
use crate::record::pictures::wanted;
use crate::record::{self, Recorder, Ring, RingError};
use crate::service::Beat;
use crate::station::Station;
use crate::station::event::{Action, Counts, Entry, Event, InspectFault, InspectJob, Trouble, Verdict};
use crate::units::{FrameId, Instant, Micros, PartId};
use crate::vision::frame::Frame;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{RecvTimeoutError, TrySendError};

/// The output process goes safe after 100 ms without one; five chances to be late.
const HEARTBEAT: Micros = Micros::from_millis(20);
/// How often people get a new snapshot.
const PUBLISH: Micros = crate::station::SHOWN_WITHIN;
/// Wait before a lost output process is started again.
const RESPAWN: Micros = Micros::from_millis(300);
/// So late, the output process is half way to going safe for want of a heartbeat.
const HELD_UP: Micros = Micros::from_millis(50);
/// Frames the core may still ask for; the camera has as many buffers and two more.
pub const FRAMES_MAX: usize = 12;
/// Most actions one event has been seen to cause is far below; the buffer never grows in practice.
const ACTIONS: usize = 256;

pub struct CoreLoop {
    pub station: Station,
    pub clock: Clock,
    pub messages: Receiver<Message>,
    pub overflow: Arc<Overflow>,
    pub jobs: Sender<Job>,
    pub ring: Ring,
    pub recorder: Recorder,
    pub link: Link,
    pub publisher: Publisher,
    pub frames: Frames,
    pub drafts: Arc<Drafts>,
    /// The recipe in force, for the camera threads.
    pub recipe: Arc<AtomicU16>,
    pub config: Arc<Config>,
    pub beat: Beat,
    pub pending: Pending,
}

impl CoreLoop {
    /// Runs until the station has finished after [`crate::station::event::Command::Stop`].
    pub fn run(mut self) -> Finished {
        let mut todo = Todo {
            actions: Vec::with_capacity(ACTIONS),
            again: VecDeque::with_capacity(64),
        };
        let mut beat = self.clock.now();
        let mut publish = beat;
        let mut respawn = None;
        loop {
            let now = self.clock.now();
            self.beat.tick();
            if now >= beat {
                self.link.heartbeat();
                beat = now + HEARTBEAT;
            }
            if now >= publish {
                self.publisher
                    .publish(&self.station, &self.link.status().lateness, now);
                publish = now + PUBLISH;
            }
            if self.link.is_lost() && respawn.is_none() {
                respawn = Some(now + RESPAWN);
            }
            if respawn.is_some_and(|at| now >= at) {
                respawn = None;
                self.respawn_outputs();
            }
            if self.overflow.take() {
                self.step(
                    Event::Trouble {
                        trouble: Trouble::Queue,
                        present: true,
                    },
                    &mut todo,
                );
                self.step(
                    Event::Trouble {
                        trouble: Trouble::Queue,
                        present: false,
                    },
                    &mut todo,
                );
            }
            if self.station.is_finished() {
                break;
            }
            let wake = self
                .station
                .next_deadline()
                .unwrap_or(Instant::MAX)
                .min(beat)
                .min(publish);
            let received = self.messages.recv_timeout(wake.since(now).to_std());
            self.tell_if_held_up(wake);
            match received {
                Ok(message) => self.take(message, &mut todo),
                Err(RecvTimeoutError::Timeout) => self.step(Event::Tick, &mut todo),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let now = self.clock.now();
        self.publisher
            .publish(&self.station, &self.link.status().lateness, now);
        let outputs = self.link.status();
        self.link.close();
        let record = self.recorder.finish(&mut self.ring);
        Finished {
            counts: self.station.view(now).counts,
            record,
            outputs,
        }
    }
}

/// What is left when the core thread ends.
pub struct Finished {
    pub counts: Counts,
    pub record: record::Finished,
    pub outputs: LinkStatus,
}

/// Reused buffers: what the station asked for, and answers that are known at once.
struct Todo {
    actions: Vec<Action>,
    again: VecDeque<Event>,
}

impl CoreLoop {
    /// Whoever finds the outputs safe for want of a heartbeat must find the reason as well.
    fn tell_if_held_up(&self, due: Instant) {
        let late = self.clock.now().since(due);
        if late > HELD_UP {
            tracing::warn!(
                late_ms = late.get() / 1_000,
                "the core was woken late: other work holds its processor (see docs/REALTIME.md)"
            );
        }
    }

    fn take(&mut self, message: Message, todo: &mut Todo) {
        match message {
            Message::Event(event) => {
                if matches!(event, Event::Inspected { .. }) {
                    self.pending.answered();
                }
                self.step(event, todo);
            }
            Message::Frame {
                seen,
                frame,
                locate_us,
            } => {
                self.frames.keep(frame, locate_us);
                self.step(Event::Frame(seen), todo);
            }
        }
    }

    /// One event and whatever follows from it at once.
    fn step(&mut self, event: Event, todo: &mut Todo) {
        todo.again.push_back(event);
        while let Some(event) = todo.again.pop_front() {
            let now = self.clock.now();
            self.publisher.note(&event);
            // Costs nothing unless asked for; ticks would bury what matters.
            if !matches!(event, Event::Tick) {
                tracing::trace!(at = now.as_micros(), ?event, "core takes");
            }
            self.station.handle(now, event, &mut todo.actions);
            for action in todo.actions.drain(..) {
                tracing::trace!(at = now.as_micros(), ?action, "core asks for");
                self.carry_out(action, &mut todo.again);
            }
        }
    }

    fn carry_out(&mut self, action: Action, again: &mut VecDeque<Event>) {
        match action {
            Action::Record(entry) => self.record(&entry, again),
            Action::Inspect(job) => self.inspect(job, again),
            Action::Release { frame, .. } => self.frames.release(frame),
            Action::Fire(plan) => self.link.fire(plan),
            Action::Cancel(pulse) => self.link.cancel(pulse),
            Action::Set { output, active } => self.link.set(output, active),
        }
    }

    /// Into the ring before anything later is done (invariant 1); the journal reads the ring.
    fn record(&mut self, entry: &Entry, again: &mut VecDeque<Event>) {
        if let Err(error) = self.ring.append(entry) {
            tracing::warn!(%error, "an entry is not on record");
            // What cannot be accounted for must not go on: the permit goes off until a person
            // has seen it. It is over at once, since only this entry was refused.
            // The end of a part that was refused before says nothing new.
            if !matches!(error, RingError::NeverSeen(..)) {
                for present in [true, false] {
                    again.push_back(Event::Trouble {
                        trouble: Trouble::Queue,
                        present,
                    });
                }
            }
        }
        self.publisher.entry(entry);
        match entry {
            Entry::Judged {
                part,
                verdict,
                will_reject,
                ..
            } => self.keep_picture(*part, verdict, *will_reject),
            Entry::Changeover { recipe, .. } => self.recipe.store(recipe.0, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Pictures of rejected parts always get a thumbnail for the display; the configuration
    /// decides which are written. What nobody wants costs nothing here.
    fn keep_picture(&mut self, part: PartId, verdict: &Verdict, rejected: bool) {
        let Some(mut draft) = self.drafts.take(part) else {
            return;
        };
        let recipe = &self.config.recipes[usize::from(draft.recipe.0)];
        let keep = wanted(
            &self.config.record,
            recipe.otherwise.keep_picture,
            part,
            verdict,
            rejected,
        );
        if !keep && !rejected {
            self.drafts.give_back(draft);
            return;
        }
        draft.picture.keep = keep;
        draft.picture.rejected = rejected;
        draft.picture.recipe.clone_from(&recipe.name);
        draft.picture.words = recipe.rules.explain(verdict);
        self.recorder.picture(draft.picture);
    }

    fn inspect(&mut self, job: InspectJob, again: &mut VecDeque<Event>) {
        let part = job.part;
        let failed = |fault| Event::Inspected {
            part,
            result: Err(fault),
        };
        let Some((frame, locate_us)) = self.frames.get(job.frame) else {
            again.push_back(failed(InspectFault::FrameGone));
            return;
        };
        match self.jobs.try_send(Job {
            job,
            frame,
            locate_us,
        }) {
            Ok(()) => self.pending.accepted(),
            Err(TrySendError::Full(_)) => again.push_back(failed(InspectFault::Overload)),
            Err(TrySendError::Disconnected(_)) => again.push_back(failed(InspectFault::Model)),
        }
    }

    fn respawn_outputs(&mut self) {
        match self.link.respawn() {
            Ok(()) => tracing::info!("the output process was started again"),
            Err(error) => tracing::warn!("the output process cannot be started: {error:#}"),
        }
    }
}

/// Jobs that inference took and has not answered. While there are some, an answer is due.
pub struct Pending {
    jobs: usize,
    beat: Beat,
}

impl Pending {
    pub fn new(beat: Beat) -> Self {
        beat.idle();
        Pending { jobs: 0, beat }
    }

    fn accepted(&mut self) {
        if self.jobs == 0 {
            self.beat.tick();
        }
        self.jobs += 1;
    }

    fn answered(&mut self) {
        self.jobs = self.jobs.saturating_sub(1);
        match self.jobs {
            0 => self.beat.idle(),
            _ => self.beat.tick(),
        }
    }
}

/// The last frames, until the core releases them.
pub struct Frames {
    slots: Vec<Option<(Arc<Frame>, u32)>>,
}

impl Frames {
    pub fn new() -> Self {
        Frames {
            slots: vec![None; FRAMES_MAX],
        }
    }

    fn slot(&mut self, id: FrameId) -> &mut Option<(Arc<Frame>, u32)> {
        &mut self.slots[(id.0 % FRAMES_MAX as u64) as usize]
    }

    /// Keeps a frame in place of the one `FRAMES_MAX` before it.
    fn keep(&mut self, frame: Arc<Frame>, locate_us: u32) {
        let slot = self.slot(frame.id);
        *slot = Some((frame, locate_us));
    }

    fn get(&mut self, id: FrameId) -> Option<(Arc<Frame>, u32)> {
        self.slot(id)
            .as_ref()
            .filter(|(frame, _)| frame.id == id)
            .cloned()
    }

    fn release(&mut self, id: FrameId) {
        let slot = self.slot(id);
        if slot.as_ref().is_some_and(|(frame, _)| frame.id == id) {
            *slot = None;
        }
    }
}
