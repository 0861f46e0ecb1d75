//! What `elek run` and `elek outputs` say to each other.
//!
//! One message is one packet of [`MESSAGE_BYTES`] on a sequenced-packet Unix socket:
//!
//! | bytes | content |
//! |---|---|
//! | 0..4 | magic `elkO` |
//! | 4..6 | version |
//! | 6..8 | kind |
//! | 8..12 | sequence number, per direction, from 0, each one more than the last |
//! | 12..124 | content, little-endian, the rest 0 |
//! | 124..128 | CRC-32 of all before |
//!
//! ```text
//! run     → outputs   Hello (with the simulated chip's file), Line × n, then orders
//! outputs → run       Ready, then reports; Alive for each heartbeat
//! ```
//! A packet that fails any check is nonsense, and nonsense ends the session: a side
//! that garbles one message cannot be trusted with the next.

use crate::config::{LineName, OutputLine};
use crate::outputs::table::{LineSpec, Order, SafeCause};
use crate::station::event::{PulsePlan, PulseRefusal};
use crate::units::{Instant, Micros, OutputId, PulseId};
use arrayvec::ArrayString;

pub const MESSAGE_BYTES: usize = 128;
const MAGIC: [u8; 4] = *b"elkO";
const VERSION: u16 = 2;
const CONTENT: usize = 12;
const CHECKSUM: usize = MESSAGE_BYTES - 4;

/// Longest name of a line: what the kernel stores (`GPIO_MAX_NAME_SIZE` of linux/gpio.h).
pub const NAME_MAX: usize = 32;

/// Longest label, name or path of a chip.
pub const CHIP_MAX: usize = 48;

pub type Packet = [u8; MESSAGE_BYTES];

/// From `elek run` to `elek outputs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// How many lines follow.
    Hello {
        lines: u8,
    },
    Line(LineInfo),
    Order(Order),
}

/// An output line as the output process has to open it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineInfo {
    pub output: OutputId,
    pub chip: ArrayString<CHIP_MAX>,
    pub name: LineLabel,
    pub active_low: bool,
    pub spec: LineSpec,
}

/// [`LineName`] as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineLabel {
    Name(ArrayString<NAME_MAX>),
    Offset(u32),
}

/// From `elek outputs` to `elek run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The lines are open. Whether the process has real-time priority and locked memory.
    Ready {
        realtime: bool,
        locked: bool,
    },
    On {
        pulse: PulseId,
        planned: Instant,
        actual: Instant,
    },
    Off {
        pulse: PulseId,
        planned: Instant,
        actual: Instant,
    },
    Refused {
        pulse: PulseId,
        refusal: PulseRefusal,
    },
    /// Every line is safe; the session is over.
    Safe {
        cause: SafeCause,
    },
    /// The answer to a heartbeat.
    Alive,
}

/// Why a packet is nonsense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    #[error("a packet of {0} bytes instead of {MESSAGE_BYTES}")]
    Length(usize),
    #[error("not a message of elek (wrong magic)")]
    Magic,
    #[error(
        "protocol version {0} instead of {VERSION}: `elek run` and `elek outputs` are of different versions"
    )]
    Version(u16),
    #[error("wrong checksum")]
    Checksum,
    #[error("message number {found} instead of {expected}")]
    Sequence { expected: u32, found: u32 },
    #[error("a message of unknown kind {0}")]
    Kind(u16),
    #[error("{0} makes no sense")]
    Content(&'static str),
}

/// Numbers and seals the messages of one direction.
#[derive(Debug, Default)]
pub struct Sender {
    sequence: u32,
}

/// Checks the packets of one direction.
#[derive(Debug, Default)]
pub struct Receiver {
    sequence: u32,
}

impl Sender {
    pub fn request(&mut self, request: Request) -> Packet {
        let mut out = Content::default();
        let kind = match request {
            Request::Hello { lines } => out.u8(lines).kind(1),
            Request::Line(line) => out
                .u8(line.output.0)
                .bool(line.active_low)
                .bool(line.spec.safe_on)
                // No pulse is as long as i64::MAX, so it can stand for "held".
                .i64(line.spec.max_on.map_or(i64::MAX, Micros::get))
                .text(&line.chip)
                .label(&line.name)
                .kind(2),
            Request::Order(Order::Fire(plan)) => out
                .u64(plan.pulse.0)
                .u8(plan.output.0)
                .i64(plan.on_at.as_micros())
                .i64(plan.off_at.as_micros())
                .kind(3),
            Request::Order(Order::Cancel(pulse)) => out.u64(pulse.0).kind(4),
            Request::Order(Order::Set { output, active }) => out.u8(output.0).bool(active).kind(5),
            Request::Order(Order::Heartbeat) => 6,
            Request::Order(Order::Bye) => 7,
        };
        self.seal(kind, &out)
    }

    pub fn report(&mut self, report: Report) -> Packet {
        let mut out = Content::default();
        let kind = match report {
            Report::Ready { realtime, locked } => out.bool(realtime).bool(locked).kind(101),
            Report::On {
                pulse,
                planned,
                actual,
            } => out.change(pulse, planned, actual).kind(102),
            Report::Off {
                pulse,
                planned,
                actual,
            } => out.change(pulse, planned, actual).kind(103),
            Report::Refused { pulse, refusal } => out.u64(pulse.0).u8(refusal_code(refusal)).kind(104),
            Report::Safe { cause } => out.u8(cause_code(cause)).kind(105),
            Report::Alive => 106,
        };
        self.seal(kind, &out)
    }

    fn seal(&mut self, kind: u16, content: &Content) -> Packet {
        let mut packet = [0; MESSAGE_BYTES];
        packet[0..4].copy_from_slice(&MAGIC);
        packet[4..6].copy_from_slice(&VERSION.to_le_bytes());
        packet[6..8].copy_from_slice(&kind.to_le_bytes());
        packet[8..12].copy_from_slice(&self.sequence.to_le_bytes());
        packet[CONTENT..CHECKSUM].copy_from_slice(&content.bytes);
        let checksum = crc32fast::hash(&packet[..CHECKSUM]);
        packet[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        packet
    }
}

impl Receiver {
    pub fn request(&mut self, packet: &[u8]) -> Result<Request, Nonsense> {
        let (kind, mut content) = self.unseal(packet)?;
        let request = match kind {
            1 => Request::Hello { lines: content.u8() },
            2 => Request::Line(LineInfo {
                output: OutputId(content.u8()),
                active_low: content.bool()?,
                spec: LineSpec {
                    safe_on: content.bool()?,
                    max_on: match content.i64() {
                        i64::MAX => None,
                        us if us > 0 => Some(Micros::new(us)),
                        _ => return Err(Nonsense::Content("a longest on-time below 1 µs")),
                    },
                },
                chip: content.text()?,
                name: content.label()?,
            }),
            3 => Request::Order(Order::Fire(PulsePlan {
                pulse: PulseId(content.u64()),
                output: OutputId(content.u8()),
                on_at: Instant::from_micros(content.i64()),
                off_at: Instant::from_micros(content.i64()),
            })),
            4 => Request::Order(Order::Cancel(PulseId(content.u64()))),
            5 => Request::Order(Order::Set {
                output: OutputId(content.u8()),
                active: content.bool()?,
            }),
            6 => Request::Order(Order::Heartbeat),
            7 => Request::Order(Order::Bye),
            _ => return Err(Nonsense::Kind(kind)),
        };
        content.end()?;
        Ok(request)
    }

    pub fn report(&mut self, packet: &[u8]) -> Result<Report, Nonsense> {
        let (kind, mut content) = self.unseal(packet)?;
        let report = match kind {
            101 => Report::Ready {
                realtime: content.bool()?,
                locked: content.bool()?,
            },
            102 | 103 => {
                let pulse = PulseId(content.u64());
                let planned = Instant::from_micros(content.i64());
                let actual = Instant::from_micros(content.i64());
                match kind {
                    102 => Report::On {
                        pulse,
                        planned,
                        actual,
                    },
                    _ => Report::Off {
                        pulse,
                        planned,
                        actual,
                    },
                }
            }
            104 => Report::Refused {
                pulse: PulseId(content.u64()),
                refusal: by_code(&REFUSALS, content.u8(), "a reason for refusal")?,
            },
            105 => Report::Safe {
                cause: by_code(&CAUSES, content.u8(), "a cause of the safe state")?,
            },
            106 => Report::Alive,
            _ => return Err(Nonsense::Kind(kind)),
        };
        content.end()?;
        Ok(report)
    }

    fn unseal<'a>(&mut self, packet: &'a [u8]) -> Result<(u16, Cursor<'a>), Nonsense> {
        let packet: &Packet = packet.try_into().map_err(|_| Nonsense::Length(packet.len()))?;
        let mut head = Cursor {
            bytes: &packet[4..CONTENT],
        };
        if packet[0..4] != MAGIC {
            return Err(Nonsense::Magic);
        }
        let (version, kind, sequence) = (head.u16(), head.u16(), head.u32());
        if version != VERSION {
            return Err(Nonsense::Version(version));
        }
        if packet[CHECKSUM..] != crc32fast::hash(&packet[..CHECKSUM]).to_le_bytes() {
            return Err(Nonsense::Checksum);
        }
        if sequence != self.sequence {
            return Err(Nonsense::Sequence {
                expected: self.sequence,
                found: sequence,
            });
        }
        self.sequence = self.sequence.wrapping_add(1);
        Ok((
            kind,
            Cursor {
                bytes: &packet[CONTENT..CHECKSUM],
            },
        ))
    }
}

impl LineInfo {
    /// `None` when the name of the chip or line is longer than [`CHIP_MAX`] or [`NAME_MAX`].
    pub fn new(output: OutputId, line: &OutputLine) -> Option<LineInfo> {
        Some(LineInfo {
            output,
            chip: ArrayString::from(&line.chip).ok()?,
            name: match &line.name {
                LineName::Name(name) => LineLabel::Name(ArrayString::from(name).ok()?),
                LineName::Offset(offset) => LineLabel::Offset(*offset),
            },
            active_low: line.active_low,
            spec: LineSpec::from(line),
        })
    }
}

/// Codes on the wire are places in these lists: append only.
const REFUSALS: [PulseRefusal; 4] = [
    PulseRefusal::TooLate,
    PulseRefusal::MaxOnReached,
    PulseRefusal::Full,
    PulseRefusal::Nonsense,
];
const CAUSES: [SafeCause; 7] = [
    SafeCause::Start,
    SafeCause::Closed,
    SafeCause::Bye,
    SafeCause::Hung,
    SafeCause::Nonsense,
    SafeCause::LineFault,
    SafeCause::Ended,
];

fn refusal_code(refusal: PulseRefusal) -> u8 {
    code(&REFUSALS, refusal)
}

fn cause_code(cause: SafeCause) -> u8 {
    code(&CAUSES, cause)
}

fn code<T: PartialEq + Copy>(all: &[T], value: T) -> u8 {
    // Every value is in its list: `every_message_survives_the_wire` goes through them by `match`.
    all.iter()
        .position(|&one| one == value)
        .map_or(u8::MAX, |at| at as u8)
}

fn by_code<T: Copy>(all: &[T], code: u8, what: &'static str) -> Result<T, Nonsense> {
    all.get(usize::from(code)).copied().ok_or(Nonsense::Content(what))
}

/// The content of a message being written.
struct Content {
    bytes: [u8; CHECKSUM - CONTENT],
    used: usize,
}

impl Default for Content {
    fn default() -> Self {
        Content {
            bytes: [0; CHECKSUM - CONTENT],
            used: 0,
        }
    }
}

impl Content {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes[self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
        self
    }
    fn u8(&mut self, value: u8) -> &mut Self {
        self.put(&[value])
    }
    fn bool(&mut self, value: bool) -> &mut Self {
        self.u8(u8::from(value))
    }
    fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_le_bytes())
    }
    fn i64(&mut self, value: i64) -> &mut Self {
        self.put(&value.to_le_bytes())
    }
    fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_le_bytes())
    }
    fn text<const MAX: usize>(&mut self, text: &ArrayString<MAX>) -> &mut Self {
        let mut padded = [0; MAX];
        padded[..text.len()].copy_from_slice(text.as_bytes());
        self.u8(text.len() as u8).put(&padded)
    }
    fn label(&mut self, label: &LineLabel) -> &mut Self {
        match label {
            LineLabel::Name(name) => self.u8(0).text(name),
            LineLabel::Offset(offset) => self.u8(1).u32(*offset),
        }
    }
    fn change(&mut self, pulse: PulseId, planned: Instant, actual: Instant) -> &mut Self {
        self.u64(pulse.0).i64(planned.as_micros()).i64(actual.as_micros())
    }
    /// Ends a chain with the kind of the message.
    fn kind(&mut self, kind: u16) -> u16 {
        kind
    }
}

/// The content of a message being read; every message is shorter than the packet.
struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self
            .bytes
            .split_first_chunk()
            .expect("a message is shorter than its packet");
        self.bytes = rest;
        *taken
    }
    fn u8(&mut self) -> u8 {
        self.take::<1>()[0]
    }
    fn bool(&mut self) -> Result<bool, Nonsense> {
        match self.u8() {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Nonsense::Content("a level that is neither on nor off")),
        }
    }
    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
    fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.take())
    }
    fn label(&mut self) -> Result<LineLabel, Nonsense> {
        match self.u8() {
            0 => Ok(LineLabel::Name(self.text()?)),
            1 => Ok(LineLabel::Offset(self.u32())),
            _ => Err(Nonsense::Content("the label of a line")),
        }
    }
    fn text<const MAX: usize>(&mut self) -> Result<ArrayString<MAX>, Nonsense> {
        let length = usize::from(self.u8());
        let padded: [u8; MAX] = self.take();
        let text = padded
            .get(..length)
            .and_then(|bytes| std::str::from_utf8(bytes).ok());
        let text = text.ok_or(Nonsense::Content("the label of a line or chip"))?;
        ArrayString::from(text).map_err(|_| Nonsense::Content("the label of a line or chip"))
    }
    fn end(self) -> Result<(), Nonsense> {
        match self.bytes.iter().all(|&byte| byte == 0) {
            true => Ok(()),
            false => Err(Nonsense::Content("what follows the content")),
        }
    }
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
