//! The threads that serve real devices: cameras and input lines.

use super::{Runtime, camera, inputs};
use crate::config::CameraSource;
use crate::units::{CameraId, Micros};
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Some drivers take seconds to open a camera, or to notice that it is gone.
const CAMERA_PATIENCE: Micros = Micros::from_secs(10);
const INPUTS_PATIENCE: Micros = Micros::from_secs(2);

/// Tells the device threads to end. They look at it at least every 200 ms.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Runtime {
    /// Opens the real cameras and lines of the configuration and lets them report. A line that
    /// cannot be had is an error; a camera that is not there yet is waited for, with an alarm.
    pub fn start_devices(&mut self) -> Result<()> {
        let beat = self.beats.register("inputs", INPUTS_PATIENCE);
        let inputs = inputs::start(&self.config, self.inputs(), self.stop.clone(), beat)
            .context("the input lines cannot be used")?;
        self.devices.push(inputs);
        for (n, settings) in self.config.cameras.iter().enumerate() {
            let CameraSource::V4l2(_) = settings.source else {
                continue;
            };
            let port = self.frames(CameraId(n as u8));
            let beat = self
                .beats
                .register(format!("camera {}", settings.name), CAMERA_PATIENCE);
            let camera = camera::start(settings, port, self.stop.clone(), beat)
                .with_context(|| format!("camera {} cannot be used", settings.name))?;
            self.devices.push(camera);
        }
        Ok(())
    }
}
