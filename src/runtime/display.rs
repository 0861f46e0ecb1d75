//! The display thread: draws the last snapshot when it changed, on a framebuffer, on a small panel, into a
//! picture file, or on all of them. Nobody waits for it (invariant 10): where it cannot draw, it raises an
//! alarm and tries again.

mod button;
mod panel;
#[cfg(test)]
mod tests;

use super::publish::Board;
use super::{Message, Overflow, send, spawn};
use crate::config::Config;
use crate::device::clock;
use crate::device::framebuffer::{Console, Framebuffer, FramebufferError, Layout};
use crate::device::panel::{Bus, Linux};
use crate::display::pages::{Pager, View};
use crate::display::{self, Canvas};
use crate::queue;
use crate::station::event::{Event, Trouble};
use crate::status::Status;
use crate::units;
use anyhow::Result;
use button::Button;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use panel::SmallPanel;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A person reads no faster, and a picture costs a few milliseconds of one core.
const EVERY: Duration = Duration::from_secs(1);
/// While a button is waited for, the wish to stop is looked at this often.
const LOOK: Duration = Duration::from_millis(100);
/// A display whose driver hangs is left behind when the station ends.
const END_MAX: Duration = Duration::from_secs(2);
/// What the page is made for, longer and shorter side; larger displays show it enlarged.
const PAGE_MAX: (u32, u32) = (1_280, 800);
/// Smaller ones cannot hold the page.
const PAGE_MIN: u32 = 240;

/// The running display thread.
pub struct Handle {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Handle {
    /// Draws the last snapshot once more and ends, unless the display hangs.
    pub fn end(self) {
        drop(self.stop);
        let asked = Instant::now();
        while !self.thread.is_finished() && asked.elapsed() < END_MAX {
            std::thread::sleep(Duration::from_millis(5));
        }
        if !self.thread.is_finished() {
            tracing::warn!("the display does not answer; it is left as it is");
        } else if self.thread.join().is_err() {
            tracing::error!("the display thread panicked");
        }
    }
}

/// Starts the thread if the configuration names something to draw on.
pub fn start(
    config: &Config,
    board: &Arc<Board>,
    messages: &queue::Sender<Message>,
    overflow: &Arc<Overflow>,
) -> Result<Option<Handle>> {
    let settings = &config.display;
    if settings.png.is_none() && settings.framebuffer.is_none() && settings.panel.is_none() {
        return Ok(None);
    }
    let (stop, stopped) = bounded(0);
    let (messages, overflow) = (messages.clone(), Arc::clone(overflow));
    let picture = settings.png.clone().map(|path| Picture {
        path,
        width: settings.width,
        height: settings.height,
    });
    let screen = settings.framebuffer.clone().map(|device| Wide {
        device,
        console: settings.console.clone(),
        open: None,
        canvas: Canvas::new(0, 0),
    });
    let panel = settings.panel.clone();
    let shows = Shows {
        picture,
        screen,
        panel: panel.map(|settings| SmallPanel::new(settings, Linux)),
        button: config.station.page.clone().map(Button::new),
        pager: Pager::new(clock::now()),
        shown: None,
        failing: String::new(),
        trouble: Box::new(move |present| {
            let trouble = Trouble::Display;
            send(
                &messages,
                &overflow,
                Message::Event(Event::Trouble { trouble, present }),
            );
        }),
    };
    let board = Arc::clone(board);
    let thread = spawn("display", move || shows.run(&board, &stopped))?;
    Ok(Some(Handle { stop, thread }))
}

/// All that the status is shown on.
struct Shows<B: Bus> {
    picture: Option<Picture>,
    screen: Option<Wide>,
    panel: Option<SmallPanel<B>>,
    /// Turns the pages of the panel.
    button: Option<Button>,
    pager: Pager,
    /// What is shown everywhere; `None` before the first time.
    shown: Option<(View, Status)>,
    /// What is wrong, as logged; empty while all is well.
    failing: String,
    trouble: Box<dyn Fn(bool) + Send>,
}

/// Why the thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    Due,
    Pressed,
    Ending,
}

impl<B: Bus + Clone> Shows<B> {
    fn run(mut self, board: &Board, stopped: &Receiver<()>) {
        let mut next = Instant::now() + EVERY;
        loop {
            let woken = self.wait(stopped, next);
            let (status, now) = (board.status(), clock::now());
            if woken == Woken::Pressed {
                self.turn_page(&status, now);
                continue;
            }
            next = Instant::now() + EVERY;
            self.bring_up_to_date(status, now);
            if woken == Woken::Ending {
                return;
            }
        }
    }

    /// The panel alone, at once.
    fn turn_page(&mut self, status: &Status, now: units::Instant) {
        self.pager.press(status, now);
        let view = self.pager.view(status, now);
        // What fails here fails again when all is drawn, and is said then.
        let _ = self.panel.as_mut().map(|panel| panel.show(status, view, now));
    }

    /// All, if there is anything new; and what failed again.
    fn bring_up_to_date(&mut self, status: Status, now: units::Instant) {
        let new = Some((self.pager.view(&status, now), status));
        if self.failing.is_empty() && self.shown == new {
            return;
        }
        if let Some((view, status)) = &new {
            self.show(status, *view, now);
        }
        self.shown = new;
    }

    fn wait(&mut self, stopped: &Receiver<()>, until: Instant) -> Woken {
        let Some(button) = &mut self.button else {
            return match stopped.recv_deadline(until) {
                Err(RecvTimeoutError::Timeout) => Woken::Due,
                _ => Woken::Ending,
            };
        };
        loop {
            if stopped.try_recv() != Err(TryRecvError::Empty) {
                return Woken::Ending;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Woken::Due;
            }
            if button.is_pressed_within(left.min(LOOK)) {
                return Woken::Pressed;
            }
        }
    }

    fn show(&mut self, status: &Status, view: View, now: units::Instant) {
        let picture = self.picture.as_ref().map(|picture| picture.show(status));
        let screen = self.screen.as_mut().map(|screen| screen.show(status));
        let panel = self.panel.as_mut();
        let panel = panel.map(|panel| panel.show(status, view, now));
        let button = self.button.as_ref().and_then(|button| button.failing.clone());
        let said: Vec<String> = [picture, screen, panel]
            .into_iter()
            .flatten()
            .filter_map(Result::err)
            .chain(button)
            .collect();
        let said = said.join("; ");
        if said.is_empty() != self.failing.is_empty() {
            (self.trouble)(!said.is_empty());
        }
        // Said once, not every second.
        if !said.is_empty() && said != self.failing {
            tracing::warn!("{said}");
        }
        self.failing = said;
    }
}

/// A picture file.
struct Picture {
    path: PathBuf,
    width: u32,
    height: u32,
}

impl Picture {
    fn show(&self, status: &Status) -> Result<(), String> {
        let png = display::png(status, self.width, self.height);
        write_whole(&self.path, &png).map_err(|error| {
            format!(
                "cannot write the picture of the display to {}: {error}",
                self.path.display()
            )
        })
    }
}

/// Writes beside the file and renames, so that a reader never sees half a picture.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("png.new");
    std::fs::write(&new, bytes)?;
    std::fs::rename(&new, path)
}

/// A framebuffer, opened when it is there and again after it went away.
struct Wide {
    device: PathBuf,
    console: Option<PathBuf>,
    open: Option<(Framebuffer, Option<Console>)>,
    canvas: Canvas,
}

impl Wide {
    fn show(&mut self, status: &Status) -> Result<(), String> {
        let (mut framebuffer, console) = match self.open.take() {
            Some(open) => open,
            None => {
                let framebuffer = Framebuffer::open(&self.device).map_err(|error| error.to_string())?;
                let console = self.console.as_deref().and_then(silence);
                (framebuffer, console)
            }
        };
        let (width, height) = page_size(framebuffer.layout())?;
        if (self.canvas.width, self.canvas.height) != (width, height) {
            self.canvas = Canvas::new(width, height);
        }
        let Ok(()) = display::draw(status, &mut self.canvas);
        framebuffer
            .show(&self.canvas.rgb, width, height)
            .map_err(|error: FramebufferError| error.to_string())?;
        self.open = Some((framebuffer, console));
        Ok(())
    }
}

/// The picture is worth more than a silent console, so that this may fail.
fn silence(console: &Path) -> Option<Console> {
    match Console::silence(console) {
        Ok(silenced) => {
            if !silenced.is_graphic() {
                tracing::info!(
                    "{} stays a text console: kernel messages may appear over the display",
                    console.display()
                );
            }
            Some(silenced)
        }
        Err(error) => {
            tracing::info!(
                "the text console {} cannot be silenced ({error}): its cursor may blink over the display; let the \
                 user that runs elek join the group `tty`",
                console.display()
            );
            None
        }
    }
}

/// The size of the page on a display: its own, or a whole part of it where it is larger than the page can be.
fn page_size(layout: &Layout) -> Result<(u32, u32), String> {
    let (width, height) = (layout.width, layout.height);
    if width < PAGE_MIN || height < PAGE_MIN {
        return Err(format!(
            "the display {} has {width} × {height} pixels; the page needs {PAGE_MIN} × {PAGE_MIN}",
            layout.name
        ));
    }
    let (long, short) = (width.max(height), width.min(height));
    let by = long.div_ceil(PAGE_MAX.0).max(short.div_ceil(PAGE_MAX.1));
    Ok((width / by, height / by))
}
