//! The thread of a real camera: opens it, delivers its pictures, opens it again when it fails.
//!
//! ```text
//!        ┌────────────── retry ──────────────┐
//!        ▼                                   │
//!   open device ──error──→ lost(true), wait ─┘
//!        │ ok                                ▲
//!        ▼                                   │
//!   deliver pictures ──error or silence──────┘
//! ```
//! The first good picture says that the camera is back; with a triggered camera, that it could be opened
//! says so. Each cause is logged once, not at every retry.

use super::{Beat, FramePort, Stop, spawn};
use crate::config::{Camera, CameraMode, CameraSource, V4l2Source};
use crate::device::camera::{CameraError, Capture, Damage, V4l2Camera};
use crate::units::Micros;
use anyhow::{Result, bail};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest wait for a picture before the loop turns: for `Stop`, the watchdog and silence.
const TURN: Duration = Duration::from_millis(100);
/// A freely running camera that skips this many pictures has stopped.
const SILENT_FRAMES: u32 = 5;
/// Even a fast camera may pause this long without being lost: automatic controls, a busy bus.
const SILENT_MIN: Duration = Duration::from_millis(300);

/// Starts the thread. A camera that is not there yet is no error: it is waited for, with an alarm.
pub(super) fn start(camera: &Camera, port: FramePort, stop: Stop, beat: Beat) -> Result<JoinHandle<()>> {
    let CameraSource::V4l2(source) = &camera.source else {
        bail!("camera {} is not a V4L2 device", camera.name);
    };
    let thread = CameraThread {
        name: camera.name.clone(),
        source: source.clone(),
        offset: camera.stamp_offset,
        exposure: camera.exposure,
        readout: camera.readout,
        retry: camera.retry.to_std(),
        silence: silence(camera.mode),
        port,
        stop,
        beat,
        said: Said::default(),
    };
    spawn(&format!("camera {}", camera.name), move || thread.run())
}

/// Without pictures for that long a camera is lost; a triggered one has nothing to say while no part comes.
fn silence(mode: CameraMode) -> Option<Duration> {
    match mode {
        CameraMode::FreeRunning { fps_milli } => {
            let frame = Duration::from_secs(1_000) / fps_milli.max(1);
            Some((frame * SILENT_FRAMES).max(SILENT_MIN))
        }
        CameraMode::Triggered => None,
    }
}

struct CameraThread {
    name: String,
    source: V4l2Source,
    offset: Micros,
    exposure: Micros,
    readout: Option<Micros>,
    retry: Duration,
    silence: Option<Duration>,
    port: FramePort,
    stop: Stop,
    beat: Beat,
    said: Said,
}

/// What was logged, so that it is not logged again.
#[derive(Default)]
struct Said {
    trouble: String,
    notes: Vec<String>,
    damaged: u64,
    dropped: u64,
}

/// Why pictures ended.
enum End {
    Stop,
    Silence,
    Error(CameraError),
}

impl CameraThread {
    fn run(mut self) {
        while !self.stop.is_set() {
            self.sign_of_life_before_opening();
            let opened = V4l2Camera::open(&self.source);
            let words = match opened {
                Ok(camera) => {
                    self.say_opened(&camera);
                    // The camera is closed before the next line is reached: unmapped, given back.
                    match self.deliver(camera) {
                        End::Stop => return,
                        End::Silence => "it delivers no pictures: check trigger, cable and power".to_owned(),
                        End::Error(error) => error.to_string(),
                    }
                }
                Err(error) => error.to_string(),
            };
            self.port.lost(true);
            if self.said.trouble != words {
                tracing::warn!("camera {}: {words}; trying again", self.name);
                self.said.trouble = words;
            }
            self.wait();
        }
    }

    /// A dying camera on a bus that retries can take longer to open than the watchdog waits. Once the core
    /// knows that it is lost, that is no reason to restart the station.
    fn sign_of_life_before_opening(&self) {
        if self.port.is_lost() {
            self.beat.idle();
        } else {
            self.beat.tick();
        }
    }

    /// Takes pictures until something ends it.
    fn deliver(&mut self, mut camera: V4l2Camera) -> End {
        if self.silence.is_none() {
            // Nothing triggers a camera while the belt stands, and it stands until the camera is back.
            self.port.lost(false);
        }
        let mut heard = Instant::now();
        let mut back = false;
        loop {
            self.beat.tick();
            if self.stop.is_set() {
                return End::Stop;
            }
            match self.next(&mut camera) {
                Ok(Some(Capture::Frame)) => {
                    heard = Instant::now();
                    if !std::mem::replace(&mut back, true) {
                        self.say_delivers(&camera);
                    }
                }
                Ok(Some(Capture::Nothing)) => {}
                Ok(Some(Capture::Damaged(damage))) => self.say_damaged(damage),
                Ok(None) => self.said.dropped += 1,
                Err(error) => return End::Error(error),
            }
            if self.silence.is_some_and(|most| heard.elapsed() > most) {
                return End::Silence;
            }
        }
    }

    /// One wait for a picture; `None` when there was no room for one and it was dropped.
    fn next(&mut self, camera: &mut V4l2Camera) -> Result<Option<Capture>, CameraError> {
        let offset = self.offset;
        let mut capture = None;
        self.port.deliver_if(|frame| {
            let got = camera.next_into(TURN, frame)?;
            frame.mid_exposure += offset;
            capture = Some(got);
            Ok::<_, CameraError>(got == Capture::Frame)
        })?;
        if capture.is_none() {
            // All frames are in use. The driver's buffer must be taken all the same: what it holds grows old.
            camera.skip(TURN)?;
        }
        Ok(capture)
    }

    /// Until the next try; ends early when the station stops.
    fn wait(&self) {
        let until = Instant::now() + self.retry;
        while !self.stop.is_set() {
            self.beat.tick();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(TURN));
        }
    }

    fn say_opened(&mut self, camera: &V4l2Camera) {
        let about = camera.about();
        let stamp = about.stamp_note(self.offset, self.exposure, self.readout);
        let notes: Vec<String> = about.notes.iter().cloned().chain(stamp).collect();
        if self.said.notes != notes {
            for note in &notes {
                tracing::warn!("camera {}: {note}", self.name);
            }
            self.said.notes = notes;
        }
    }

    fn say_delivers(&mut self, camera: &V4l2Camera) {
        let about = camera.about();
        tracing::info!("camera {} delivers: {}", self.name, about.words());
        self.said.trouble.clear();
    }

    fn say_damaged(&mut self, damage: Damage) {
        self.said.damaged += 1;
        // The first, and then ever more seldom: a bad cable damages every other picture.
        if self.said.damaged.is_power_of_two() {
            tracing::warn!(
                "camera {}: a picture is not used: {}; {} so far",
                self.name,
                damage.words(),
                self.said.damaged
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_running_camera_is_lost_after_some_frames_and_a_triggered_one_never() {
        let free = |fps_milli| silence(CameraMode::FreeRunning { fps_milli });
        assert_eq!(free(10_000), Some(Duration::from_millis(500)));
        assert_eq!(free(1_000), Some(Duration::from_secs(5)));
        assert_eq!(free(120_000), Some(SILENT_MIN));
        assert_eq!(free(0), Some(Duration::from_secs(5_000)));
        assert_eq!(silence(CameraMode::Triggered), None);
    }
}
