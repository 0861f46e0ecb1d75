//! The display thread: draws the last snapshot when it changed. Nobody waits for it (invariant 10).

use super::publish::Board;
use super::spawn;
use crate::config::Config;
use crate::display;
use crate::status::Status;
use anyhow::Result;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// A person reads no faster, and a picture costs a few milliseconds of one core.
const EVERY: Duration = Duration::from_secs(1);

/// Starts the thread if the configuration names a picture file. Dropping the sender ends it.
pub fn start(config: &Config, board: &Arc<Board>) -> Result<Option<(Sender<()>, JoinHandle<()>)>> {
    let Some(path) = config.display.png.clone() else {
        return Ok(None);
    };
    let (stop, stopped) = bounded(0);
    let screen = Screen {
        path,
        width: config.display.width,
        height: config.display.height,
        failing: false,
    };
    let board = Arc::clone(board);
    Ok(Some((
        stop,
        spawn("display", move || screen.run(&board, &stopped))?,
    )))
}

struct Screen {
    path: PathBuf,
    width: u32,
    height: u32,
    failing: bool,
}

impl Screen {
    fn run(mut self, board: &Board, stopped: &Receiver<()>) {
        let mut shown = None;
        loop {
            let ending = stopped.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout);
            let status = board.status();
            if shown.as_ref() != Some(&status) {
                self.show(&status);
                shown = Some(status);
            }
            if ending {
                return;
            }
        }
    }

    fn show(&mut self, status: &Status) {
        let png = display::png(status, self.width, self.height);
        match write_whole(&self.path, &png) {
            Ok(()) => self.failing = false,
            // Said once, not every second.
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::warn!(
                    "cannot write the picture of the display to {}: {error}",
                    self.path.display()
                );
            }
            Err(_) => {}
        }
    }
}

/// Writes beside the file and renames, so that a reader never sees half a picture.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("png.new");
    std::fs::write(&new, bytes)?;
    std::fs::rename(&new, path)
}
