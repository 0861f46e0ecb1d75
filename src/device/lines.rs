//! Output lines: those of the simulated chip, or those of the kernel's chips.

use crate::config::LineName;
use crate::device::clock;
use crate::device::gpio::{Chip, Drive, GpioError};
use crate::device::simchip::{SimChip, SimLines};
use crate::outputs::protocol::{LineInfo, LineLabel};
use crate::outputs::table::LINES_MAX;
use crate::units::{Instant, OutputId};
use arrayvec::ArrayVec;
use std::os::fd::OwnedFd;

/// The name of the built-in chip.
pub const SIMULATED_CHIP: &str = "sim";

#[derive(Debug)]
pub enum OutputPort {
    Simulated(SimLines),
    Gpio(GpioLines),
}

#[derive(Debug, thiserror::Error)]
pub enum PortError {
    #[error("line {0} is real and others are on the chip \"sim\": nothing can be on both")]
    Mixed(LineName),
    #[error("the lines are on the simulated chip, but it was not handed over")]
    NoSimulatedChip,
    #[error("the simulated chip cannot be mapped: {0}")]
    Map(std::io::Error),
    #[error(transparent)]
    Gpio(#[from] GpioError),
}

impl OutputPort {
    /// Opens all lines; `chip` is the file of the simulated chip. Real lines are in their safe
    /// state from the request on; simulated ones keep their level until they are set.
    pub fn open(lines: &[LineInfo], chip: Option<OwnedFd>) -> Result<OutputPort, PortError> {
        let is_real = |line: &&LineInfo| &line.chip != SIMULATED_CHIP;
        match lines.iter().filter(is_real).count() {
            0 => {
                let chip = SimChip::from_fd(chip.ok_or(PortError::NoSimulatedChip)?);
                Ok(OutputPort::Simulated(chip.map_err(PortError::Map)?.lines()))
            }
            real if real == lines.len() => Ok(OutputPort::Gpio(GpioLines::open(lines)?)),
            _ => {
                let real = lines.iter().find(is_real).map(|line| line.name.into());
                Err(PortError::Mixed(real.expect("neither none nor all are real")))
            }
        }
    }

    /// Whether these very lines are the ones that are open. Lines of a real chip then stay open
    /// from session to session, so that nothing happens to their levels between.
    pub fn serves(&self, lines: &[LineInfo]) -> bool {
        match self {
            OutputPort::Simulated(_) => false,
            OutputPort::Gpio(port) => port.asked == *lines,
        }
    }

    /// Switches a line to a logical level and says when that was.
    pub fn set(&mut self, output: OutputId, active: bool) -> std::io::Result<Instant> {
        match self {
            OutputPort::Simulated(lines) => Ok(lines.set(output, active)),
            OutputPort::Gpio(lines) => lines.set(output, active),
        }
    }

    /// Sets a line to the level that it has. The simulated chip, which is memory, needs it not.
    pub fn refresh(&mut self, output: OutputId, active: bool) -> std::io::Result<()> {
        match self {
            OutputPort::Simulated(_) => Ok(()),
            OutputPort::Gpio(lines) => lines.set(output, active).map(drop),
        }
    }
}

/// Lines of the kernel's chips, one request a chip.
#[derive(Debug)]
pub struct GpioLines {
    asked: Vec<LineInfo>,
    drives: Vec<Drive>,
    /// By `OutputId`.
    lines: ArrayVec<Place, LINES_MAX>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    drive: usize,
    place: usize,
    active_low: bool,
}

impl GpioLines {
    fn open(lines: &[LineInfo]) -> Result<GpioLines, GpioError> {
        let mut chips: Vec<(Chip, Vec<(LineName, bool)>)> = Vec::new();
        let mut places = ArrayVec::new();
        for line in lines {
            let chip = Chip::find(&line.chip)?;
            let known = |(other, _): &(Chip, _)| other.info().path == chip.info().path;
            let drive = chips.iter().position(known).unwrap_or_else(|| {
                chips.push((chip, Vec::new()));
                chips.len() - 1
            });
            let together = &mut chips[drive].1;
            places.push(Place {
                drive,
                place: together.len(),
                active_low: line.active_low,
            });
            together.push((line.name.into(), line.spec.safe_on != line.active_low));
        }
        let drives = chips.iter().map(|(chip, together)| chip.drive(together));
        Ok(GpioLines {
            asked: lines.to_vec(),
            drives: drives.collect::<Result<_, _>>()?,
            lines: places,
        })
    }

    fn set(&mut self, output: OutputId, active: bool) -> std::io::Result<Instant> {
        let Some(line) = self.lines.get(usize::from(output.0)) else {
            return Err(std::io::ErrorKind::NotFound.into());
        };
        self.drives[line.drive].set(line.place, active != line.active_low)?;
        // The line has changed by now at the latest.
        Ok(clock::now())
    }
}

impl From<LineLabel> for LineName {
    fn from(label: LineLabel) -> LineName {
        match label {
            LineLabel::Name(name) => LineName::Name(name.to_string()),
            LineLabel::Offset(offset) => LineName::Offset(offset),
        }
    }
}

/// Looks for all output lines of a station without touching them, so that a wrong name is told
/// at the start and not by an output process that cannot begin.
pub fn find(outputs: &[crate::config::OutputLine]) -> Result<(), GpioError> {
    for line in outputs.iter().filter(|line| line.chip != SIMULATED_CHIP) {
        match Chip::find(&line.chip).and_then(|chip| chip.offset(&line.name)) {
            // The output process may be allowed to open what we are not.
            Ok(_) | Err(GpioError::Open { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
