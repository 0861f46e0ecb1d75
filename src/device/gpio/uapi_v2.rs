//! The kernel's second GPIO interface, by the crate `gpiocdev`.

use super::{CONSUMER, LineInfo, RawEdge};
use crate::config::Bias;
use arrayvec::ArrayVec;
use gpiocdev::line::{self, Direction, EdgeDetection, EdgeKind, EventClock, Value};
use gpiocdev::{AbiVersion, Chip, Request};
use rustix::fd::{AsFd, BorrowedFd};
use std::io;
use std::path::Path;

/// Events the kernel keeps for a line: the most it allows. At 2,000 edges/s half a second.
const QUEUE: u32 = 1_024;

/// Events taken at a time. The crate's `read_edge_event()` would read several and return one.
pub const BATCH: usize = 64;

/// 8-byte words of an event: `struct gpio_v2_line_event` of linux/gpio.h.
const EVENT_WORDS: usize = 6;

pub fn is_spoken(chip: &Chip) -> bool {
    chip.supports_abi_version(AbiVersion::V2).is_ok()
}

pub fn line_info(chip: &Chip, offset: u32) -> Result<LineInfo, String> {
    let info = chip.line_info(offset).map_err(|error| error.to_string())?;
    let named = |text: String| (!text.is_empty()).then_some(text);
    Ok(LineInfo {
        offset,
        name: named(info.name),
        used_by: info
            .used
            .then(|| named(info.consumer).unwrap_or_else(|| "the kernel".into())),
        output: info.direction == Direction::Output,
        active_low: info.active_low,
    })
}

/// An input line with its events.
#[derive(Debug)]
pub struct Watch {
    request: Request,
    buffer: Box<[u64; EVENT_WORDS * BATCH]>,
    /// The kernel numbers the events of a line from 1.
    next: u32,
}

impl Watch {
    pub fn request(chip: &Path, offset: u32, bias: Bias) -> Result<Watch, String> {
        let mut builder = Request::builder();
        builder
            .on_chip(chip)
            .with_consumer(CONSUMER)
            .with_kernel_event_buffer_size(QUEUE)
            .with_line(offset)
            .as_input()
            .with_edge_detection(EdgeDetection::BothEdges)
            .with_event_clock(EventClock::Monotonic);
        match bias {
            Bias::Kept => &mut builder,
            Bias::PullUp => builder.with_bias(line::Bias::PullUp),
            Bias::PullDown => builder.with_bias(line::Bias::PullDown),
            Bias::Disabled => builder.with_bias(line::Bias::Disabled),
        };
        Ok(Watch {
            request: builder.request().map_err(|error| error.to_string())?,
            buffer: Box::new([0; EVENT_WORDS * BATCH]),
            next: 1,
        })
    }

    pub fn is_high(&self) -> io::Result<bool> {
        let value = self.request.lone_value().map_err(io::Error::other)?;
        Ok(value == Value::Active)
    }

    /// Takes what the kernel has, at most [`BATCH`]; waits if it has nothing.
    pub fn read(&mut self, edges: &mut ArrayVec<RawEdge, BATCH>) -> io::Result<()> {
        let words = self
            .request
            .read_edge_events_into_slice(&mut self.buffer[..])
            .map_err(io::Error::other)?;
        for event in self.buffer[..words].chunks_exact(EVENT_WORDS) {
            let event = self
                .request
                .edge_event_from_slice(event)
                .map_err(io::Error::other)?;
            let gap = event.line_seqno != self.next;
            self.next = event.line_seqno.wrapping_add(1);
            edges.push(RawEdge {
                high: event.kind == EdgeKind::Rising,
                stamp: event.timestamp_ns,
                gap,
            });
        }
        Ok(())
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.request.as_fd()
    }
}

/// Output lines of one chip.
#[derive(Debug)]
pub struct Drive {
    request: Request,
    offsets: Vec<u32>,
}

impl Drive {
    pub fn request(chip: &Path, lines: &[(u32, bool)]) -> Result<Drive, String> {
        let mut builder = Request::builder();
        builder.on_chip(chip).with_consumer(CONSUMER);
        for (offset, high) in lines {
            builder.with_line(*offset).as_output(value(*high));
        }
        Ok(Drive {
            request: builder.request().map_err(|error| error.to_string())?,
            offsets: lines.iter().map(|(offset, _)| *offset).collect(),
        })
    }

    pub fn set(&mut self, place: usize, high: bool) -> io::Result<()> {
        self.request
            .set_value(self.offsets[place], value(high))
            .map_err(io::Error::other)
    }
}

fn value(high: bool) -> Value {
    if high { Value::Active } else { Value::Inactive }
}
