//! The simulated line in real time: `elek demo`, and `elek run` on the
//! simulated camera or a folder of pictures.
//!
//! One thread moves the [`World`] along the clock and reports its edges and
//! encoder samples to the station; another is the camera: it makes a frame of
//! each exposure. What the output process does to the simulated chip comes
//! back with its stamps and acts on the world's actuator and motor.

use super::count::LineCount;
use super::part::{PartTruth, TruthCounts};
use super::render::Renderer;
use super::scene::scene;
use super::world::{Expose, World, WorldEvent, WorldFault, WorldOptions};
use crate::config::{Camera, CameraSource, Config, FolderSource, SimulatedSource};
use crate::device::clock::Clock;
use crate::device::folder::Folder;
use crate::device::realtime::{Priority, raise_priority};
use crate::device::simchip::SimReader;
use crate::queue::{self, Receiver, Sender};
use crate::runtime::{FramePort, InputPort};
use crate::station::event::{Event, Input};
use crate::units::{Instant, Micros};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::TrySendError;
use std::thread::JoinHandle;

/// How far the world stays behind the clock, so that a line change of the output process is known
/// before the world has passed its stamp. Stamps stay true; only their delivery is this late, as
/// with a kernel under load.
const BEHIND: Micros = Micros::from_millis(4);
/// Between two looks at the world.
const STEP: Micros = Micros::from_millis(2);
/// Exposures waiting for the camera thread; more means that it cannot keep up and loses frames.
const EXPOSURES_MAX: usize = 4;

/// A line that runs beside the station.
pub struct LiveLine {
    world: JoinHandle<LineAccount>,
    camera: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    feed: Arc<Feed>,
}

/// Whether parts are laid on the belt, and whether any are left there.
#[derive(Default)]
struct Feed {
    stop: AtomicBool,
    empty: AtomicBool,
}

/// What really happened on the line.
pub struct LineAccount {
    pub counts: TruthCounts,
    /// The last parts that left the belt, oldest first.
    pub finished: Vec<PartTruth>,
    /// Parts still on the belt.
    pub on_belt: Vec<PartTruth>,
}

/// What the line needs of the station.
pub struct Ports {
    pub inputs: InputPort,
    pub frames: FramePort,
    pub chip: SimReader,
    /// Where the line counts its parts, if anywhere beside its memory.
    pub count: Option<LineCount>,
}

impl LiveLine {
    /// Starts the line that `config` describes.
    pub fn start(
        config: &Arc<Config>,
        options: WorldOptions,
        clock: Clock,
        ports: Ports,
    ) -> std::io::Result<LiveLine> {
        let stop = Arc::new(AtomicBool::new(false));
        let feed = Arc::new(Feed::default());
        let (exposures, to_camera) = queue::bounded(EXPOSURES_MAX);
        let camera = {
            let config = Arc::clone(config);
            let frames = ports.frames;
            let seed = options.seed;
            std::thread::Builder::new()
                .name("camera".into())
                .spawn(move || shoot(&config, seed, &to_camera, frames))?
        };
        let world = {
            let (stop, feed) = (Arc::clone(&stop), Arc::clone(&feed));
            let world = World::with_options(config, options, clock.now());
            let line = Line {
                world,
                clock,
                inputs: ports.inputs,
                chip: ports.chip,
                count: ports.count,
                exposures,
            };
            std::thread::Builder::new().name("line".into()).spawn(move || {
                // In place of the kernel's interrupts, which do not wait for inference either.
                // Without the right to it, edges are merely delivered later; their stamps stay true.
                let _ = raise_priority(Priority::Line);
                line.run(&stop, &feed)
            })?
        };
        Ok(LiveLine {
            world,
            camera,
            stop,
            feed,
        })
    }

    /// Stops the line and says what happened on it. `None` if one of its threads panicked.
    pub fn finish(self) -> Option<LineAccount> {
        self.stop.store(true, Ordering::Release);
        let account = self.world.join().ok();
        self.camera.join().ok()?;
        account
    }

    /// No more parts are laid on the belt.
    pub fn stop_feeding(&self) {
        self.feed.stop.store(true, Ordering::Release);
    }

    /// After [`LiveLine::stop_feeding`]: the last part has left the line.
    pub fn is_empty(&self) -> bool {
        self.feed.empty.load(Ordering::Acquire)
    }

    /// The camera has no more pictures: a folder that does not repeat is through.
    pub fn is_through(&self) -> bool {
        self.camera.is_finished()
    }
}

struct Line {
    world: World,
    clock: Clock,
    inputs: InputPort,
    chip: SimReader,
    count: Option<LineCount>,
    exposures: Sender<Expose>,
}

impl Line {
    fn run(mut self, stop: &AtomicBool, feed: &Feed) -> LineAccount {
        let mut happened = Vec::with_capacity(64);
        let mut fed = true;
        while !stop.load(Ordering::Acquire) {
            if fed && feed.stop.load(Ordering::Acquire) {
                fed = false;
                self.world.fault(self.clock.now(), WorldFault::StopFeed(true));
            }
            feed.empty.store(!fed && self.world.is_empty(), Ordering::Release);
            self.read_chip();
            self.world.advance(self.clock.now() - BEHIND, &mut happened);
            for event in happened.drain(..) {
                self.report(event);
            }
            self.clock.sleep_until(self.clock.now() + STEP);
        }
        let truth = self.world.truth();
        LineAccount {
            counts: truth.counts,
            finished: truth.finished.iter().copied().collect(),
            on_belt: self.world.parts_on_belt().copied().collect(),
        }
    }

    fn read_chip(&mut self) {
        loop {
            match self.chip.next_change() {
                Ok(Some(change)) => self.world.output(change.output, change.active, change.at),
                Ok(None) => return,
                Err(overrun) => tracing::warn!("{overrun}"),
            }
        }
    }

    fn report(&self, event: WorldEvent) {
        match event {
            WorldEvent::Sensed(event) => {
                if let (Some(count), Some(at)) = (&self.count, crossing(&event)) {
                    count.crossed(at);
                }
                self.inputs.send(event);
            }
            WorldEvent::Expose(expose) => match self.exposures.try_send(expose) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                // As with a real camera that is too slow: the core sees the gap in the sequence.
                Err(TrySendError::Full(lost)) => {
                    tracing::warn!(sequence = lost.sequence, "the simulated camera lost a frame")
                }
            },
        }
    }
}

/// When a part broke the photo-eye's beam. A live line has no bouncing or missed edges.
fn crossing(event: &Event) -> Option<Instant> {
    match event {
        Event::Edge {
            input: Input::PhotoEye(_),
            active: true,
            at,
        } => Some(*at),
        _ => None,
    }
}

fn shoot(config: &Config, seed: u64, exposures: &Receiver<Expose>, mut frames: FramePort) {
    let camera = &config.cameras[0];
    match &camera.source {
        CameraSource::Simulated(source) => render(camera, source, seed, exposures, &mut frames),
        CameraSource::Folder(source) => replay(source, exposures, &mut frames),
        CameraSource::V4l2(_) => tracing::error!("a V4L2 camera is not simulated"),
    }
}

/// Draws each exposure.
fn render(
    camera: &Camera,
    source: &SimulatedSource,
    seed: u64,
    exposures: &Receiver<Expose>,
    frames: &mut FramePort,
) {
    let format = source.format;
    let mut renderer = Renderer::new(seed, format.width, format.height, camera.um_per_px);
    while let Some(expose) = exposures.recv() {
        let scene = scene(&expose, camera, format.width, format.height, seed);
        frames.deliver(|frame| {
            renderer.frame(&scene, format.pixels, &mut frame.bytes, None);
            frame.format = format.pixels;
            frame.width = renderer.width();
            frame.height = renderer.height();
            frame.stride = renderer.stride(format.pixels);
            frame.sequence = expose.sequence;
            frame.mid_exposure = expose.mid_exposure;
        });
    }
}

/// Replays the pictures of a folder, one an exposure.
fn replay(source: &FolderSource, exposures: &Receiver<Expose>, frames: &mut FramePort) {
    let mut folder = match Folder::open(&source.path, source.repeat) {
        Ok(folder) => folder,
        Err(error) => {
            tracing::warn!("{error:#}");
            frames.lost(true);
            return;
        }
    };
    while let Some(expose) = exposures.recv() {
        let picture = frames.deliver_if(|frame| {
            frame.sequence = expose.sequence;
            frame.mid_exposure = expose.mid_exposure;
            folder.next_into(frame).map(|file| file.is_some())
        });
        match picture {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!("{error}");
                frames.lost(true);
                return;
            }
        }
    }
}
