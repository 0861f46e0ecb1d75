use super::{Beat, InputPort, Stop};
use crate::config::Config;
use anyhow::{Result, bail};
use std::sync::Arc;
use std::thread::JoinHandle;
pub(super) fn start(
    _config: &Arc<Config>,
    _port: InputPort,
    _stop: Stop,
    _beat: Beat,
) -> Result<JoinHandle<()>> {
    bail!("not yet")
}
