//! Where the pictures of a camera enter the station: buffers to fill, then
//! located on the camera's own thread and passed to the core.

use super::core_loop::FRAMES_MAX;
use super::{Message, Overflow, send};
use crate::config::{Config, Crop, Recipe};
use crate::queue::Sender;
use crate::station::event::{BLOBS_MAX, Blob, Event, FrameSeen};
use crate::units::{CameraId, FrameId};
use crate::vision::frame::{Frame, PixelFormat};
use crate::vision::locate::Locator;
use arrayvec::ArrayVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

/// Beside those the core may hold: one with a worker, one being filled.
const SPARE: usize = 2;

/// One camera's way in. Lives on the thread that takes the pictures.
pub struct FramePort {
    camera: CameraId,
    buffers: Vec<Arc<Frame>>,
    /// One per recipe; `None` where a recipe looks at the whole picture.
    locators: Vec<Option<Locator>>,
    /// The recipe in force.
    recipe: Arc<AtomicU16>,
    next: FrameId,
    /// As the core was told.
    lost: bool,
    messages: Sender<Message>,
    overflow: Arc<Overflow>,
}

impl FramePort {
    pub(super) fn new(
        camera: CameraId,
        config: &Config,
        recipe: Arc<AtomicU16>,
        messages: Sender<Message>,
        overflow: Arc<Overflow>,
    ) -> Self {
        let empty = Frame {
            camera,
            ..Frame::new(PixelFormat::Grey, 0, 0, Vec::new())
        };
        let settings = &config.cameras[usize::from(camera.0)];
        let locator = |recipe: &Arc<Recipe>| {
            matches!(recipe.crop, Crop::Part { .. }).then(|| Locator::new(settings.locate, settings, recipe))
        };
        FramePort {
            camera,
            buffers: (0..FRAMES_MAX + SPARE).map(|_| Arc::new(empty.clone())).collect(),
            locators: config.recipes.iter().map(locator).collect(),
            recipe,
            next: FrameId(0),
            lost: false,
            messages,
            overflow,
        }
    }

    /// Lets `fill` write the next picture (everything but camera and id), then locates and
    /// delivers it. Returns `false` when every buffer is in use and the picture was dropped:
    /// the core notices by the gap in `sequence`.
    pub fn deliver(&mut self, fill: impl FnOnce(&mut Frame)) -> bool {
        self.deliver_if(|frame| {
            fill(frame);
            Ok::<_, std::convert::Infallible>(true)
        })
        .unwrap_or_else(|never| match never {})
    }

    /// The same for a source that may have no picture: nothing is delivered unless `fill` says `true`.
    pub fn deliver_if<E>(&mut self, fill: impl FnOnce(&mut Frame) -> Result<bool, E>) -> Result<bool, E> {
        let Some(at) = self
            .buffers
            .iter_mut()
            .position(|frame| Arc::get_mut(frame).is_some())
        else {
            tracing::warn!(
                camera = self.camera.0,
                "no free frame buffer, a frame was dropped"
            );
            return Ok(false);
        };
        // It was free a line above, and nobody else can have taken it: clones are made here only.
        let Some(frame) = Arc::get_mut(&mut self.buffers[at]) else {
            return Ok(false);
        };
        if !fill(frame)? {
            return Ok(false);
        }
        frame.camera = self.camera;
        frame.id = self.next;
        self.next = FrameId(self.next.0 + 1);
        self.pass_on(at);
        Ok(true)
    }

    fn pass_on(&mut self, at: usize) {
        // A picture proves that the camera is back, and the core must know before it sees the picture:
        // the driver's count began anew.
        self.lost(false);
        let frame = Arc::clone(&self.buffers[at]);
        let started = Instant::now();
        let mut blobs: ArrayVec<Blob, BLOBS_MAX> = ArrayVec::new();
        let recipe = usize::from(self.recipe.load(Ordering::Relaxed));
        if let Some(Some(locator)) = self.locators.get_mut(recipe)
            && let Err(error) = locator.locate(&frame, &mut blobs)
        {
            // Without blobs its part is "not found", which the recipe treats as no result.
            tracing::warn!(frame = frame.id.0, "a frame cannot be read: {error}");
        }
        let locate_us = started.elapsed().as_micros() as u32;
        let seen = FrameSeen {
            camera: self.camera,
            frame: frame.id,
            sequence: frame.sequence,
            mid_exposure: frame.mid_exposure,
            // `Frame::check` bounds the sides far below; an unreadable frame has no blobs to place.
            width: u16::try_from(frame.width).unwrap_or(u16::MAX),
            height: u16::try_from(frame.height).unwrap_or(u16::MAX),
            blobs,
        };
        send(
            &self.messages,
            &self.overflow,
            Message::Frame {
                seen,
                frame,
                locate_us,
            },
        );
    }

    /// The camera stopped delivering, or delivers again (which the next picture says by itself).
    pub fn lost(&mut self, lost: bool) {
        if std::mem::replace(&mut self.lost, lost) == lost {
            return;
        }
        send(
            &self.messages,
            &self.overflow,
            Message::Event(Event::CameraLost {
                camera: self.camera,
                lost,
            }),
        );
    }

    /// The core has been told that the camera is lost.
    pub fn is_lost(&self) -> bool {
        self.lost
    }
}
