//! Output lines of a chip.

use crate::device::simchip::{SimChip, SimLines};
use crate::outputs::protocol::LineInfo;
use crate::units::{Instant, OutputId};
use std::os::fd::OwnedFd;

/// The name of the built-in chip.
pub const SIMULATED_CHIP: &str = "sim";

#[derive(Debug)]
pub enum OutputPort {
    Simulated(SimLines),
}

#[derive(Debug, thiserror::Error)]
pub enum PortError {
    #[error(
        "line {name} is on chip {chip}, which this version cannot drive; only the built-in chip \"sim\" is available"
    )]
    UnknownChip { chip: String, name: String },
    #[error("the lines are on the simulated chip, but it was not handed over")]
    NoSimulatedChip,
    #[error("the simulated chip cannot be mapped: {0}")]
    Map(std::io::Error),
}

impl OutputPort {
    /// Opens all lines; `chip` is the file of the simulated chip. No level is changed yet.
    pub fn open(lines: &[LineInfo], chip: Option<OwnedFd>) -> Result<OutputPort, PortError> {
        if let Some(line) = lines.iter().find(|line| &line.chip != SIMULATED_CHIP) {
            let (chip, name) = (line.chip.to_string(), line.name.to_string());
            return Err(PortError::UnknownChip { chip, name });
        }
        let chip = SimChip::from_fd(chip.ok_or(PortError::NoSimulatedChip)?).map_err(PortError::Map)?;
        Ok(OutputPort::Simulated(chip.lines()))
    }

    /// Switches a line to a logical level and says when that was.
    pub fn set(&mut self, output: OutputId, active: bool) -> std::io::Result<Instant> {
        match self {
            OutputPort::Simulated(lines) => Ok(lines.set(output, active)),
        }
    }
}
