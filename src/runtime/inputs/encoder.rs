//! The encoder: samples of (count, stamp) for the core, from lines or from a kernel counter.

use super::InputPort;
use crate::config::{Config, EncoderSource, Motion};
use crate::device::clock;
use crate::device::counter::{Counter, CounterError};
use crate::device::gpio::edges::Edge;
use crate::device::quadrature::{Decoder, Phase};
use crate::station::event::Event;
use crate::units::{Instant, LaneId, Micros};
use std::path::PathBuf;

/// From sample to sample. The core keeps half a second of history at 1 ms and takes a belt that
/// is silent for 30 ms to stand; at 1 m/s the belt moves 2 mm between two samples, and places
/// between them are interpolated.
const SAMPLE: Micros = Micros::from_millis(2);

/// Edges of two lines reach us by two queues, and each of them after its stamp by the time that
/// the kernel's interrupt thread takes. After this they are taken to be complete, and sorted.
const HOLD: Micros = Micros::from_millis(1);

/// Added to the count after it could not be followed for a while. Farther than any belt moves, so
/// that the core sees that it does not know where the belt is, and voids the places of all parts.
pub const JUMP: i64 = 1 << 44;

/// Edges that wait to be sorted: more than both lines can bring in a turn.
const HELD_MAX: usize = 1_024;

pub struct Encoder {
    lane: LaneId,
    /// It counts down while the belt runs forward; the core is told the opposite.
    reverse: bool,
    source: Source,
    /// The last count told; `None` before the first.
    told: Option<i64>,
    /// When the next sample may be told, or the counter is read. In the past while nothing moves.
    next: Instant,
}

enum Source {
    None,
    Lines {
        decoder: Decoder,
        held: Vec<Held>,
        /// Of the last edge counted.
        at: Instant,
    },
    Counter {
        path: PathBuf,
        /// `None` while it cannot be read.
        counter: Option<Counter>,
        /// What counters before this one counted.
        base: i64,
        last: i64,
    },
}

#[derive(Clone, Copy, Debug)]
struct Held {
    phase: Phase,
    edge: Edge,
}

impl Encoder {
    /// Opens the counter, if that is the source. Lines are opened by the caller, who then says
    /// where they stand by [`Encoder::restart`].
    pub fn open(config: &Config, now: Instant) -> Result<Encoder, CounterError> {
        let (source, reverse) = match &config.belt.motion {
            Motion::Encoder { source, reverse, .. } => (source, *reverse),
            Motion::Time { .. } => (&EncoderSource::Simulated, false),
        };
        let source = match source {
            EncoderSource::Simulated => Source::None,
            EncoderSource::Lines { b, .. } => Source::Lines {
                decoder: Decoder::new(false, b.as_ref().map(|_| false)),
                held: Vec::with_capacity(HELD_MAX),
                at: now,
            },
            EncoderSource::Counter(path) => Source::Counter {
                counter: Some(Counter::open(path)?),
                path: path.clone(),
                base: 0,
                last: 0,
            },
        };
        Ok(Encoder {
            lane: config.belt.lane,
            reverse,
            source,
            told: None,
            next: now,
        })
    }

    /// Whether the lines of the encoder are to be read now, or only with the next sample.
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// When [`Encoder::turn`] has something to do although no line is readable.
    pub fn wake(&self) -> Option<Instant> {
        match &self.source {
            Source::None => None,
            Source::Counter { counter, .. } => counter.is_some().then_some(self.next),
            Source::Lines { decoder, held, .. } => {
                let waits = !held.is_empty() || self.told != Some(decoder.count());
                waits.then_some(self.next)
            }
        }
    }

    /// Between two samples, lines of the encoder are not waited for.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// An edge of one of the encoder's lines.
    pub fn edge(&mut self, phase: Phase, edge: Edge) {
        if let Source::Lines { held, .. } = &mut self.source {
            held.push(Held { phase, edge });
        }
    }

    /// The lines are followed from these levels on; what they did before is not known, unless
    /// this is the start.
    pub fn restart(&mut self, a: bool, b: Option<bool>) {
        let jump = if self.told.is_some() { JUMP } else { 0 };
        if let Source::Lines { decoder, held, .. } = &mut self.source {
            held.clear();
            decoder.restart(a, b, jump);
        }
    }

    /// Counts are missing, nobody knows how many.
    pub fn void(&mut self) {
        if let Source::Lines { decoder, .. } = &mut self.source {
            let (a, b) = decoder.levels();
            decoder.restart(a, b, JUMP);
        }
    }

    /// The counter was lost; tries to have it again.
    pub fn reopen(&mut self) -> Option<Result<(), CounterError>> {
        let Source::Counter {
            path,
            counter: counter @ None,
            base,
            last,
        } = &mut self.source
        else {
            return None;
        };
        Some(Counter::open(path).map(|opened| {
            *base += *last + JUMP;
            *last = 0;
            *counter = Some(opened);
        }))
    }

    pub fn is_lost(&self) -> bool {
        matches!(self.source, Source::Counter { counter: None, .. })
    }

    /// Tells the core of the belt's motion. Edges that contradict each other are counted.
    pub fn turn(&mut self, now: Instant, port: &InputPort) -> Result<Turn, CounterError> {
        if now < self.next {
            return Ok(Turn::default());
        }
        let mut turn = Turn::default();
        let (counts, at) = match &mut self.source {
            Source::None => {
                self.next = Instant::MAX;
                return Ok(turn);
            }
            Source::Lines { held, decoder, .. } if held.is_empty() && self.told == Some(decoder.count()) => {
                // Nothing moves: the lines are waited for like others, and no sample is due.
                return Ok(turn);
            }
            Source::Lines { decoder, held, at } => {
                held.sort_by_key(|held| held.edge.order);
                let complete = held.partition_point(|held| held.edge.at <= now - HOLD);
                for Held { phase, edge } in held.drain(..complete) {
                    turn.illegal += u32::from(decoder.edge(phase, edge.active).is_err());
                    *at = edge.at;
                }
                (decoder.count(), *at)
            }
            Source::Counter {
                counter: slot,
                base,
                last,
                ..
            } => {
                let Some(counter) = slot else { return Ok(turn) };
                let reading = match counter.read() {
                    Ok(reading) => reading,
                    Err(error) => {
                        *slot = None;
                        return Err(error);
                    }
                };
                *last = reading.counts;
                (*base + reading.counts, reading.at)
            }
        };
        self.next = now + SAMPLE;
        if self.told != Some(counts) {
            // The first one says where the belt is now.
            let at = if self.told.is_none() { clock::now() } else { at };
            self.told = Some(counts);
            let lane = self.lane;
            let counts = if self.reverse { -counts } else { counts };
            port.send(Event::Encoder { lane, counts, at });
        }
        Ok(turn)
    }
}

/// What came of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Edges that cannot follow the one before.
    pub illegal: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Message;
    use std::time::Duration;

    /// The counts that the core is told of a disc that turns by four edges, a ahead of b.
    fn told(reverse: bool) -> Vec<i64> {
        let mut encoder = Encoder {
            lane: LaneId(0),
            reverse,
            source: Source::Lines {
                decoder: Decoder::new(false, Some(false)),
                held: Vec::new(),
                at: Instant::ZERO,
            },
            told: None,
            next: Instant::ZERO,
        };
        let (port, events) = InputPort::alone(8);
        let edges = [
            (Phase::A, true),
            (Phase::B, true),
            (Phase::A, false),
            (Phase::B, false),
        ];
        for (order, (phase, active)) in (1..).zip(edges) {
            let at = Instant::from_micros(order as i64 * 10_000);
            let edge = Edge {
                active,
                at,
                order,
                gap: false,
            };
            encoder.edge(phase, edge);
            let turn = encoder.turn(at + HOLD, &port).expect("lines do not fail");
            assert_eq!(turn, Turn::default());
        }
        let messages = std::iter::from_fn(|| events.recv_timeout(Duration::ZERO).ok());
        let counts = messages.map(|message| match message {
            Message::Event(Event::Encoder { counts, .. }) => counts,
            _ => panic!("only counts are told"),
        });
        counts.collect()
    }

    #[test]
    fn an_encoder_mounted_the_other_way_counts_forward_for_the_core() {
        assert_eq!(told(false), [1, 2, 3, 4]);
        assert_eq!(told(true), [-1, -2, -3, -4]);
    }
}
