//! Raw edges of one input line, both directions, each with its stamp and polarity applied.

use super::{Chip, GpioError, RawEdge, Uapi, Watch, uapi_v2};
use crate::config::InputLine;
use crate::device::clock;
use crate::units::Instant;
use arrayvec::ArrayVec;
use rustix::fd::{AsFd, BorrowedFd};
use std::io;

/// Most edges of one [`EdgeLine::read`].
pub const BATCH: usize = uapi_v2::BATCH;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The level after the edge.
    pub active: bool,
    pub at: Instant,
    /// The kernel's stamp in ns, to put edges of several lines in order.
    pub order: u64,
    /// Edges before this one were lost, or may have been.
    pub gap: bool,
}

pub type Edges = ArrayVec<Edge, BATCH>;

/// A line that is watched. Dropping it gives the line back.
#[derive(Debug)]
pub struct EdgeLine {
    watch: Watch,
    active_low: bool,
}

impl EdgeLine {
    pub fn open(line: &InputLine) -> Result<EdgeLine, GpioError> {
        let chip = Chip::find(&line.chip)?;
        Ok(EdgeLine {
            watch: chip.watch(&line.name, line.bias)?,
            active_low: line.active_low,
        })
    }

    pub fn uapi(&self) -> Uapi {
        match &self.watch {
            Watch::V1(_) => Uapi::V1,
            Watch::V2(_) => Uapi::V2,
        }
    }

    /// Whether edges carry the kernel's stamps. If not, they carry the time of waking up.
    pub fn has_kernel_stamps(&self) -> bool {
        match &self.watch {
            Watch::V1(watch) => watch.is_monotonic(),
            Watch::V2(_) => true,
        }
    }

    /// The level now. Fails once the chip is gone, which kernels before 6.2 tell in no other way.
    pub fn is_active(&self) -> io::Result<bool> {
        let high = match &self.watch {
            Watch::V1(watch) => watch.is_high()?,
            Watch::V2(watch) => watch.is_high()?,
        };
        Ok(high != self.active_low)
    }

    /// Takes waiting edges, oldest first; to be called when the line is readable.
    pub fn read(&mut self, edges: &mut Edges) -> io::Result<()> {
        let mut raw: ArrayVec<RawEdge, BATCH> = ArrayVec::new();
        match &mut self.watch {
            Watch::V1(watch) => watch.read(&mut raw)?,
            Watch::V2(watch) => watch.read(&mut raw)?,
        };
        let woke = (!self.has_kernel_stamps()).then(clock::now);
        edges.clear();
        edges.extend(raw.into_iter().map(|RawEdge { high, stamp, gap }| Edge {
            active: high != self.active_low,
            at: woke.unwrap_or(Instant::from_micros((stamp / 1_000) as i64)),
            order: stamp,
            gap,
        }));
        Ok(())
    }
}

impl AsFd for EdgeLine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.watch {
            Watch::V1(watch) => watch.as_fd(),
            Watch::V2(watch) => watch.as_fd(),
        }
    }
}
