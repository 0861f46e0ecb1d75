//! Threads, queues and priorities: all of them, and nowhere else.
//!
//! | thread | priority | core | queue in | when it overflows |
//! |---|---|---|---|---|
//! | `core` | FIFO 20 where allowed | any | messages, 1,024 | trouble `Queue`: permit off (invariant 4) |
//! | `infer-N` | normal | any but those that the output process is bound to | jobs, 16 | the part gets no result at once (`Overload`), which its recipe rejects |
//! | `infer-help-N` | normal | as `infer-N` | shares of a step of whichever `infer-N` has them, see [`Team`] | – |
//! | `camera` (the caller of [`FramePort::deliver`]) | normal | any | – | no free buffer: the frame is dropped, the core sees the gap |
//! | `inputs` | FIFO 30 where allowed | any | – | a full queue to the core is trouble `Queue` |
//! | `pictures` | normal | any | kept parts, 32 | counted, alarm; the line goes on |
//! | `journal` | normal | any | none: it reads the ring | – |
//! | `outputs` reader | normal | any | – | – |
//! | `control` | normal | any | one request at a time | the client waits |
//! | `display` | normal | any | none: it reads the last snapshot, and the button of a small panel | – |
//!
//! The output process (`elek outputs`) is a process of its own; see `outputs`.
//!
//! The core thread is the only one that touches the [`Station`]. Everything
//! else talks to it by messages and reads it by snapshots.

mod camera;
mod core_loop;
mod devices;
mod display;
mod drafts;
mod frame_port;
mod inputs;
mod publish;
mod team;
mod worker;

pub use crate::service::{Beat, Beats};
pub use core_loop::Finished;
pub use devices::Stop;
pub use frame_port::FramePort;
pub use inputs::Listener;
pub use publish::{Samples, Times};

use crate::config::Config;
use crate::control::{Control, Setup};
use crate::device::clock::Clock;
use crate::device::lines::SIMULATED_CHIP;
use crate::device::realtime::{Priority, raise_priority};
use crate::device::simchip::{SimChip, SimReader};
use crate::infer::inspector::Inspector;
use crate::kernels::team::Team;
use crate::outputs::link::{Link, Peer};
use crate::queue::{self, Receiver, Sender};
use crate::record::{Hooks, Recorder, Ring};
use crate::station::Station;
use crate::station::event::{Command, Event, FrameSeen};
use crate::status::Status;
use crate::units::{CameraId, Micros};
use crate::vision::frame::Frame;
use anyhow::{Context, Result, bail};
use core_loop::{CoreLoop, Frames, Pending};
use drafts::Drafts;
use publish::{Board, Publisher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc::TrySendError;
use std::thread::JoinHandle;

/// Deep enough for a second of encoder samples; more means that the core hangs.
const MESSAGES_MAX: usize = 1_024;
/// Parts waiting for a worker; beyond that their verdicts would be late anyway.
const JOBS_MAX: usize = 16;
/// The core turns every 20 ms; a second of silence is no load, it is a hang.
const CORE_PATIENCE: Micros = Micros::from_secs(1);
/// However short the deadlines are, a computer under load may need this long for a job.
const JOB_PATIENCE: Micros = Micros::from_secs(5);

/// What the core thread is told.
pub enum Message {
    Event(Event),
    Frame {
        seen: FrameSeen,
        frame: Arc<Frame>,
        locate_us: u32,
    },
}

/// Set by whoever could not put a message into a queue; read by the core.
#[derive(Debug, Default)]
pub struct Overflow(AtomicBool);

impl Overflow {
    fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

/// How a station is run, beside its configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that run models.
    pub workers: usize,
    /// The process that owns the output lines.
    pub outputs: Peer,
    /// Where the loops leave their signs of life.
    pub beats: Beats,
}

/// A configuration whose models are loaded. So far nothing was touched that another
/// running station could need.
pub struct Prepared {
    config: Arc<Config>,
    options: Options,
    inspectors: Vec<Vec<Inspector>>,
    team: Option<Arc<Team>>,
}

impl Prepared {
    /// Models first: they take longest and fail most often.
    pub fn new(config: Arc<Config>, options: Options) -> Result<Prepared> {
        let team = team::start(config.inference.threads)?;
        let inspectors = load_inspectors(&config, options.workers.max(1), team.as_ref())?;
        Ok(Prepared {
            config,
            options,
            inspectors,
            team,
        })
    }

    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }
}

/// A running station.
pub struct Runtime {
    config: Arc<Config>,
    messages: Sender<Message>,
    overflow: Arc<Overflow>,
    board: Arc<Board>,
    recipe: Arc<AtomicU16>,
    chip: Option<SimChip>,
    core: JoinHandle<Finished>,
    workers: Vec<JoinHandle<()>>,
    beats: Beats,
    stop: Stop,
    /// Cameras and input lines.
    devices: Vec<JoinHandle<()>>,
    display: Option<display::Handle>,
    _control: Control,
}

impl Runtime {
    /// Opens the record, starts the output process and all threads but those of devices.
    /// The permit stays off until a person acknowledges (invariant 6).
    pub fn start(prepared: Prepared) -> Result<Runtime> {
        let Prepared {
            config,
            options,
            inspectors,
            team,
        } = prepared;
        let Options { outputs, beats, .. } = options;
        let (ring, resume) = Ring::open(&config.record.path)?;
        let clock = Clock;
        let now = clock.now();
        let (messages, to_core) = queue::bounded(MESSAGES_MAX);
        let overflow = Arc::new(Overflow::default());
        let recipe = Arc::new(AtomicU16::new(config.station.recipe.0));
        let station = Station::new(Arc::clone(&config), resume, now);
        let board = Arc::new(Board::new(publish::first(&config, &station, now)));
        let recorder = start_recorder(&config, &ring, &messages, &overflow, &board)?;
        let chip = config
            .outputs
            .iter()
            .any(|line| line.chip == SIMULATED_CHIP)
            .then(SimChip::create)
            .transpose();
        let chip = chip.context("cannot create the simulated chip")?;
        let link = start_link(outputs, &config, chip.as_ref(), &messages)?;
        let drafts = Arc::new(Drafts::new());
        let (jobs, to_workers) = queue::bounded(JOBS_MAX);
        let patience = job_patience(&config);
        let mut workers = Vec::with_capacity(inspectors.len());
        for (n, own) in inspectors.into_iter().enumerate() {
            let (jobs, answers, drafts) = (to_workers.clone(), messages.clone(), Arc::clone(&drafts));
            let name = format!("infer-{n}");
            let beat = beats.register(name.clone(), patience);
            workers.push(spawn(&name, move || {
                worker::run(&jobs, &answers, own, &drafts, &beat)
            })?);
        }
        team::settle(&link, team.as_deref(), &workers)?;
        let control = start_control(&config, &messages, &board)?;
        let display = display::start(&config, &board, &messages, &overflow)?;
        let core = CoreLoop {
            station,
            clock,
            messages: to_core,
            overflow: Arc::clone(&overflow),
            jobs,
            ring,
            recorder,
            link,
            publisher: Publisher::new(Arc::clone(&config), Arc::clone(&board), now),
            frames: Frames::new(),
            drafts,
            recipe: Arc::clone(&recipe),
            config: Arc::clone(&config),
            beat: beats.register("core", CORE_PATIENCE),
            pending: Pending::new(beats.register("inference", patience)),
        };
        let core = spawn("core", move || {
            if let Err(error) = raise_priority(Priority::Core) {
                tracing::info!("the core runs without real-time priority: {error}");
            }
            core.run()
        })?;
        Ok(Runtime {
            config,
            messages,
            overflow,
            board,
            recipe,
            chip,
            core,
            workers,
            beats,
            stop: Stop::default(),
            devices: Vec::new(),
            display,
            _control: control,
        })
    }

    /// Where edges and encoder samples go in.
    pub fn inputs(&self) -> InputPort {
        InputPort {
            messages: self.messages.clone(),
            overflow: Arc::clone(&self.overflow),
        }
    }

    /// Where the pictures of a camera go in.
    pub fn frames(&self, camera: CameraId) -> FramePort {
        FramePort::new(
            camera,
            &self.config,
            Arc::clone(&self.recipe),
            self.messages.clone(),
            Arc::clone(&self.overflow),
        )
    }

    /// What the output process does to simulated lines; `None` when all lines are real.
    pub fn chip(&self) -> Option<SimReader> {
        self.chip.as_ref().map(SimChip::reader)
    }

    pub fn status(&self) -> Status {
        self.board.status()
    }

    pub fn times(&self) -> Times {
        self.board.times().clone()
    }

    /// A command is never dropped (invariant 4): waits for a place in the queue.
    pub fn command(&self, command: Command) {
        // The core only goes away after `Stop`; a command to it then has no addressee any more.
        let _ = self.messages.send(Message::Event(Event::Command(command)));
    }

    /// The core thread has ended: after `Stop`, or because it failed.
    pub fn has_ended(&self) -> bool {
        self.core.is_finished()
    }

    /// Waits for the end after [`Command::Stop`]: planned rejects fired, outputs safe, journal written.
    pub fn finish(mut self) -> Result<Finished> {
        let Ok(finished) = self.core.join() else {
            bail!(
                "the core thread panicked: this is a bug in elek; the outputs are safe and the ring is whole"
            );
        };
        // Only now: what the belt carried out while it coasted had to be seen.
        self.stop.set();
        for thread in self.workers.into_iter().chain(self.devices) {
            let name = thread.thread().name().unwrap_or("a thread").to_owned();
            if thread.join().is_err() {
                tracing::error!("the thread {name} panicked");
            }
        }
        if let Some(display) = self.display.take() {
            display.end();
        }
        Ok(finished)
    }
}

/// A job is overdue when its verdict has been worthless for a long time: it will not come back.
fn job_patience(config: &Config) -> Micros {
    let decide = config
        .recipes
        .iter()
        .map(|recipe| recipe.decide_within.get())
        .max();
    JOB_PATIENCE.max(Micros::new(decide.unwrap_or(0) * 4))
}

fn spawn<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .with_context(|| format!("cannot start the thread {name}"))
}

/// For each worker, an inspector of each recipe. Files are read and optimized once.
fn load_inspectors(config: &Config, workers: usize, team: Option<&Arc<Team>>) -> Result<Vec<Vec<Inspector>>> {
    let mut first = Vec::with_capacity(config.recipes.len());
    for recipe in &config.recipes {
        let inspector = Inspector::with_team(recipe, &config.cameras[0], team)
            .with_context(|| format!("the models of recipe `{}` cannot be used", recipe.name))?;
        first.push(inspector);
    }
    let mut all = Vec::with_capacity(workers);
    for _ in 1..workers {
        all.push(first.iter().map(Inspector::fork).collect::<Result<Vec<_>>>()?);
    }
    all.push(first);
    Ok(all)
}

fn start_recorder(
    config: &Config,
    ring: &Ring,
    messages: &Sender<Message>,
    overflow: &Arc<Overflow>,
    board: &Arc<Board>,
) -> Result<Recorder> {
    let (to_core, lost, board) = (messages.clone(), Arc::clone(overflow), Arc::clone(board));
    let hooks = Hooks {
        trouble: Box::new(move |trouble, present| {
            send(
                &to_core,
                &lost,
                Message::Event(Event::Trouble { trouble, present }),
            );
        }),
        thumbnail: Box::new(move |part, thumbnail| board.thumbnail.store(Some(Arc::new((part, thumbnail))))),
    };
    Recorder::spawn(config, ring, hooks).context("cannot start the record")
}

fn start_link(
    peer: Peer,
    config: &Config,
    chip: Option<&SimChip>,
    messages: &Sender<Message>,
) -> Result<Link> {
    let to_core = messages.clone();
    let sink = Arc::new(move |event| {
        let _ = to_core.send(Message::Event(event));
    });
    Link::to(peer, &config.outputs, chip, sink).context("the output process cannot be had")
}

/// Takes what happens on the input lines. Never blocks.
#[derive(Clone)]
pub struct InputPort {
    messages: Sender<Message>,
    overflow: Arc<Overflow>,
}

impl InputPort {
    /// A port without a core behind it.
    fn alone(most: usize) -> (InputPort, Receiver<Message>) {
        let (messages, events) = queue::bounded(most);
        let overflow = Arc::default();
        (InputPort { messages, overflow }, events)
    }

    pub fn send(&self, event: Event) {
        send(&self.messages, &self.overflow, Message::Event(event));
    }
}

/// Invariant 4: what does not fit into the queue switches the permit off.
fn send(messages: &Sender<Message>, overflow: &Overflow, message: Message) {
    if let Err(TrySendError::Full(_)) = messages.try_send(message) {
        overflow.set();
    }
}

fn start_control(config: &Config, messages: &Sender<Message>, board: &Arc<Board>) -> Result<Control> {
    let (to_core, board) = (messages.clone(), Arc::clone(board));
    let setup = Setup {
        record: config.record.path.clone(),
        recipes: config.recipes.iter().map(|recipe| recipe.name.clone()).collect(),
        status: Box::new(move || board.status.load_full()),
        command: Box::new(move |command| to_core.try_send(Message::Event(Event::Command(command))).is_ok()),
    };
    Control::start(setup).context("cannot open the control socket")
}
