use super::{Beat, FramePort, Stop};
use crate::config::Camera;
use anyhow::{Result, bail};
use std::thread::JoinHandle;
pub(super) fn start(camera: &Camera, _port: FramePort, _stop: Stop, _beat: Beat) -> Result<JoinHandle<()>> {
    bail!("{} not yet", camera.name)
}
