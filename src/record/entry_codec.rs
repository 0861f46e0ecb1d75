//! A line of the account as 44 bytes, the same on every machine.
//!
//! The numbers in this file are the format of the ring on the disk: a new
//! variant gets a new number, an old number is never given another meaning.

use crate::station::event::{
    AlarmKind, Counts, Entry, Fate, NoResult, Reason, Stray, Trouble, Unaccounted, Verdict,
};
use crate::units::{BeltPosition, Instant, LaneId, Micros, PartId, PulseId, RecipeId};

/// Room for one line: with sequence (8), counts (72) and checksum (4) it makes 128.
pub const LINE_BYTES: usize = 44;

/// What a record of the ring says.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    Entry(Entry),
    /// A process took over the account.
    Opened(Opened),
    /// The process ended on purpose, with everything on record.
    Closed {
        at: Instant,
        /// The reservation at that time. While it is still the one in force, nobody has used a number since.
        reserved_until: PartId,
    },
}

/// What a process found when it took over the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    pub at: Instant,
    /// The first number the process may give to a part.
    pub next_part: PartId,
    /// Parts that were on the belt when the last process ended; now unaccounted.
    pub in_flight: u64,
    /// Parts that were seen but whose records are gone; now seen and unaccounted.
    pub lost: u64,
    /// The machine itself went down without a clean end.
    pub power_loss: bool,
}

/// An end of a part that was not on the belt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unbalanced;

/// Takes an entry into the running account.
pub fn apply_entry(counts: &mut Counts, entry: &Entry) -> Result<(), Unbalanced> {
    match entry {
        Entry::Seen { .. } => {
            counts.seen += 1;
            counts.in_flight += 1;
        }
        Entry::Judged { late: true, .. } => counts.late += 1,
        Entry::Ended { .. } if counts.in_flight == 0 => return Err(Unbalanced),
        Entry::Ended { fate, .. } => counts.end(*fate),
        _ => {}
    }
    Ok(())
}

/// Both directions of a list of variants and their numbers; leaving a variant out does not compile.
macro_rules! codes {
    ($to:ident, $from:ident, $type:ty, $($code:literal => [$($value:tt)*])*) => {
        fn $to(value: $type) -> u8 {
            match value {
                $($($value)* => $code,)*
            }
        }
        fn $from(code: u8) -> Option<$type> {
            Some(match code {
                $($code => $($value)*,)*
                _ => return None,
            })
        }
    };
}

codes! { fate_code, fate_of, Fate,
    0 => [Fate::Passed { verified: false }]
    1 => [Fate::Passed { verified: true }]
    2 => [Fate::Confirmed]
    3 => [Fate::Unconfirmed]
    4 => [Fate::Collateral]
    5 => [Fate::Escaped]
    6 => [Fate::Unaccounted(Unaccounted::Missing)]
    7 => [Fate::Unaccounted(Unaccounted::Restart)]
    8 => [Fate::Unaccounted(Unaccounted::LostPosition)]
    9 => [Fate::Unaccounted(Unaccounted::LedgerFull)]
}
codes! { no_result_code, no_result_of, NoResult,
    0 => [NoResult::Late]
    1 => [NoResult::NoFrame]
    2 => [NoResult::NotFound]
    3 => [NoResult::Ambiguous]
    4 => [NoResult::Fault]
}
codes! { stray_code, stray_of, Stray,
    0 => [Stray::FrameWithoutTrigger]
    1 => [Stray::PassedEyeWithoutPart]
    2 => [Stray::ChuteEyeWithoutReject]
    3 => [Stray::DuplicateFrame]
}
codes! { alarm_code, alarm_of, AlarmKind,
    0 => [AlarmKind::AcknowledgeNeeded]
    1 => [AlarmKind::PartsUnaccounted]
    2 => [AlarmKind::RejectNotConfirmed]
    3 => [AlarmKind::Escape]
    4 => [AlarmKind::GoodPartMissing]
    5 => [AlarmKind::BinFull]
    6 => [AlarmKind::AirLow]
    7 => [AlarmKind::ConsecutiveRejects]
    8 => [AlarmKind::CameraLost]
    9 => [AlarmKind::OutputsLost]
    10 => [AlarmKind::LedgerFull]
    11 => [AlarmKind::LateResult]
    12 => [AlarmKind::BeltSpeed]
    13 => [AlarmKind::EncoderSlip]
    14 => [AlarmKind::PulseFault]
    15 => [AlarmKind::SensorStuck]
    16 => [AlarmKind::PartWithoutTrigger]
    17 => [AlarmKind::BeltBackward]
    200 => [AlarmKind::Trouble(Trouble::Record)]
    201 => [AlarmKind::Trouble(Trouble::DiskLow)]
    202 => [AlarmKind::Trouble(Trouble::Display)]
    203 => [AlarmKind::Trouble(Trouble::Queue)]
    204 => [AlarmKind::Trouble(Trouble::EdgesLost)]
    205 => [AlarmKind::Trouble(Trouble::LinesLost)]
}

/// Encodes what the station says, without allocation.
pub fn encode_entry(entry: &Entry) -> [u8; LINE_BYTES] {
    let mut out = Out::new();
    match entry {
        Entry::Seen {
            part,
            lane,
            at,
            position,
            recipe,
        } => {
            out.u8(1)
                .u64(part.0)
                .u8(lane.0)
                .time(*at)
                .i64(position.as_micrometres())
                .u16(recipe.0);
        }
        Entry::Judged {
            part,
            verdict,
            will_reject,
            at,
            late,
            margin,
        } => {
            out.u8(2)
                .u64(part.0)
                .time(*at)
                .i64(margin.get())
                .bool(*will_reject)
                .bool(*late);
            verdict_out(&mut out, verdict);
        }
        Entry::Planned {
            part,
            pulse,
            on_at,
            off_at,
        } => {
            out.u8(3).u64(part.0).u64(pulse.0).time(*on_at).time(*off_at);
        }
        Entry::Fired {
            pulse,
            planned_on,
            actual_on,
            planned_off,
            actual_off,
        } => {
            out.u8(4).u64(pulse.0).time(*planned_on).time(*actual_on);
            out.time(*planned_off).time(*actual_off);
        }
        Entry::Ended { part, fate, at } => {
            out.u8(5).u64(part.0).u8(fate_code(*fate)).time(*at);
        }
        Entry::Stray { stray, at } => {
            out.u8(6).u8(stray_code(*stray)).time(*at);
        }
        Entry::Alarm { alarm, raised, at } => {
            out.u8(7).u8(alarm_code(*alarm)).bool(*raised).time(*at);
        }
        Entry::Acknowledged { at } => {
            out.u8(8).time(*at);
        }
        Entry::Changeover { recipe, at } => {
            out.u8(9).u16(recipe.0).time(*at);
        }
        Entry::Permit { on, at } => {
            out.u8(10).bool(*on).time(*at);
        }
    }
    out.bytes
}

/// Encodes any line.
pub fn encode(line: &Line) -> [u8; LINE_BYTES] {
    let mut out = Out::new();
    match line {
        Line::Entry(entry) => return encode_entry(entry),
        Line::Opened(opened) => {
            out.u8(100)
                .time(opened.at)
                .u64(opened.next_part.0)
                .u64(opened.in_flight)
                .u64(opened.lost);
            out.bool(opened.power_loss);
        }
        Line::Closed { at, reserved_until } => {
            out.u8(101).time(*at).u64(reserved_until.0);
        }
    }
    out.bytes
}

/// Decodes a line; `None` when it says nothing this version knows.
pub fn decode(bytes: &[u8; LINE_BYTES]) -> Option<Line> {
    let mut from = In { bytes, next: 0 };
    let entry = match from.u8()? {
        1 => Entry::Seen {
            part: PartId(from.u64()?),
            lane: LaneId(from.u8()?),
            at: from.time()?,
            position: BeltPosition::from_micrometres(from.i64()?),
            recipe: RecipeId(from.u16()?),
        },
        2 => judged_in(&mut from)?,
        3 => Entry::Planned {
            part: PartId(from.u64()?),
            pulse: PulseId(from.u64()?),
            on_at: from.time()?,
            off_at: from.time()?,
        },
        4 => Entry::Fired {
            pulse: PulseId(from.u64()?),
            planned_on: from.time()?,
            actual_on: from.time()?,
            planned_off: from.time()?,
            actual_off: from.time()?,
        },
        5 => Entry::Ended {
            part: PartId(from.u64()?),
            fate: fate_of(from.u8()?)?,
            at: from.time()?,
        },
        6 => Entry::Stray {
            stray: stray_of(from.u8()?)?,
            at: from.time()?,
        },
        7 => Entry::Alarm {
            alarm: alarm_of(from.u8()?)?,
            raised: from.bool()?,
            at: from.time()?,
        },
        8 => Entry::Acknowledged { at: from.time()? },
        9 => Entry::Changeover {
            recipe: RecipeId(from.u16()?),
            at: from.time()?,
        },
        10 => Entry::Permit {
            on: from.bool()?,
            at: from.time()?,
        },
        100 => return opened_in(&mut from).map(Line::Opened),
        101 => {
            return Some(Line::Closed {
                at: from.time()?,
                reserved_until: PartId(from.u64()?),
            });
        }
        _ => return None,
    };
    Some(Line::Entry(entry))
}

fn verdict_out(out: &mut Out, verdict: &Verdict) {
    match verdict {
        Verdict::Pass => out.u8(0),
        Verdict::Reject(reason) => out.u8(1).u8(reason.rule).u32(reason.measured.to_bits()),
        Verdict::Unsure => out.u8(2),
        Verdict::NoResult(why) => out.u8(3).u8(no_result_code(*why)),
    };
}

fn judged_in(from: &mut In<'_>) -> Option<Entry> {
    let (part, at, margin) = (PartId(from.u64()?), from.time()?, Micros::new(from.i64()?));
    let (will_reject, late) = (from.bool()?, from.bool()?);
    let verdict = match from.u8()? {
        0 => Verdict::Pass,
        1 => Verdict::Reject(Reason {
            rule: from.u8()?,
            measured: f32::from_bits(from.u32()?),
        }),
        2 => Verdict::Unsure,
        3 => Verdict::NoResult(no_result_of(from.u8()?)?),
        _ => return None,
    };
    Some(Entry::Judged {
        part,
        verdict,
        will_reject,
        at,
        late,
        margin,
    })
}

fn opened_in(from: &mut In<'_>) -> Option<Opened> {
    Some(Opened {
        at: from.time()?,
        next_part: PartId(from.u64()?),
        in_flight: from.u64()?,
        lost: from.u64()?,
        power_loss: from.bool()?,
    })
}

/// Writes values one behind the other, little-endian.
struct Out {
    bytes: [u8; LINE_BYTES],
    next: usize,
}

impl Out {
    fn new() -> Out {
        Out {
            bytes: [0; LINE_BYTES],
            next: 0,
        }
    }
    fn put<const N: usize>(&mut self, value: [u8; N]) -> &mut Out {
        self.bytes[self.next..self.next + N].copy_from_slice(&value);
        self.next += N;
        self
    }
    fn u8(&mut self, value: u8) -> &mut Out {
        self.put([value])
    }
    fn bool(&mut self, value: bool) -> &mut Out {
        self.put([u8::from(value)])
    }
    fn u16(&mut self, value: u16) -> &mut Out {
        self.put(value.to_le_bytes())
    }
    fn u32(&mut self, value: u32) -> &mut Out {
        self.put(value.to_le_bytes())
    }
    fn u64(&mut self, value: u64) -> &mut Out {
        self.put(value.to_le_bytes())
    }
    fn i64(&mut self, value: i64) -> &mut Out {
        self.put(value.to_le_bytes())
    }
    fn time(&mut self, value: Instant) -> &mut Out {
        self.i64(value.as_micros())
    }
}

/// Reads values back in the order they were written.
struct In<'a> {
    bytes: &'a [u8; LINE_BYTES],
    next: usize,
}

impl In<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let value = self.bytes.get(self.next..self.next + N)?.try_into().ok()?;
        self.next += N;
        Some(value)
    }
    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }
    fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }
    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }
    fn time(&mut self) -> Option<Instant> {
        self.i64().map(Instant::from_micros)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time() -> impl Strategy<Value = Instant> {
        any::<i64>().prop_map(Instant::from_micros)
    }

    fn code<T: std::fmt::Debug + Clone + 'static>(of: fn(u8) -> Option<T>) -> impl Strategy<Value = T> {
        let all: Vec<T> = (0..=255).filter_map(of).collect();
        proptest::sample::select(all)
    }

    fn verdict() -> impl Strategy<Value = Verdict> {
        prop_oneof![
            Just(Verdict::Pass),
            (any::<u8>(), -1e30f32..1e30)
                .prop_map(|(rule, measured)| Verdict::Reject(Reason { rule, measured })),
            Just(Verdict::Unsure),
            code(no_result_of).prop_map(Verdict::NoResult),
        ]
    }

    /// Any line that can be written.
    pub fn line() -> impl Strategy<Value = Line> {
        let part = || any::<u64>().prop_map(PartId);
        let pulse = || any::<u64>().prop_map(PulseId);
        let entry = prop_oneof![
            (part(), any::<u8>(), time(), any::<i64>(), any::<u16>()).prop_map(|(part, lane, at, um, r)| {
                let position = BeltPosition::from_micrometres(um);
                Entry::Seen {
                    part,
                    lane: LaneId(lane),
                    at,
                    position,
                    recipe: RecipeId(r),
                }
            }),
            (
                part(),
                verdict(),
                any::<bool>(),
                time(),
                any::<bool>(),
                any::<i64>()
            )
                .prop_map(|(part, verdict, will_reject, at, late, margin)| {
                    Entry::Judged {
                        part,
                        verdict,
                        will_reject,
                        at,
                        late,
                        margin: Micros::new(margin),
                    }
                }),
            (part(), pulse(), time(), time()).prop_map(|(part, pulse, on_at, off_at)| Entry::Planned {
                part,
                pulse,
                on_at,
                off_at
            }),
            (pulse(), [time(), time(), time(), time()]).prop_map(|(pulse, [a, b, c, d])| Entry::Fired {
                pulse,
                planned_on: a,
                actual_on: b,
                planned_off: c,
                actual_off: d
            }),
            (part(), code(fate_of), time()).prop_map(|(part, fate, at)| Entry::Ended { part, fate, at }),
            (code(stray_of), time()).prop_map(|(stray, at)| Entry::Stray { stray, at }),
            (code(alarm_of), any::<bool>(), time()).prop_map(|(alarm, raised, at)| Entry::Alarm {
                alarm,
                raised,
                at
            }),
            time().prop_map(|at| Entry::Acknowledged { at }),
            (any::<u16>(), time()).prop_map(|(r, at)| Entry::Changeover {
                recipe: RecipeId(r),
                at
            }),
            (any::<bool>(), time()).prop_map(|(on, at)| Entry::Permit { on, at }),
        ];
        let opened = (time(), part(), any::<[u64; 2]>(), any::<bool>()).prop_map(|(at, part, n, power)| {
            let [in_flight, lost] = n;
            Line::Opened(Opened {
                at,
                next_part: part,
                in_flight,
                lost,
                power_loss: power,
            })
        });
        let closed = (time(), part()).prop_map(|(at, reserved_until)| Line::Closed { at, reserved_until });
        prop_oneof![8 => entry.prop_map(Line::Entry), 1 => opened, 1 => closed]
    }

    proptest! {
        #[test]
        fn every_line_comes_back_as_it_was(line in line()) {
            prop_assert_eq!(decode(&encode(&line)), Some(line));
        }

        #[test]
        fn random_bytes_never_panic(bytes in any::<[u8; LINE_BYTES]>()) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn the_account_counts_each_part_once_and_refuses_an_end_without_a_beginning() {
        let mut counts = Counts::default();
        let at = Instant::ZERO;
        let ended = Entry::Ended {
            part: PartId(1),
            fate: Fate::Confirmed,
            at,
        };
        assert_eq!(apply_entry(&mut counts, &ended), Err(Unbalanced));
        assert_eq!(counts, Counts::default());
        let (lane, recipe, position) = (LaneId(0), RecipeId(0), BeltPosition::ZERO);
        apply_entry(
            &mut counts,
            &Entry::Seen {
                part: PartId(1),
                lane,
                at,
                position,
                recipe,
            },
        )
        .unwrap();
        apply_entry(&mut counts, &ended).unwrap();
        assert_eq!(
            counts,
            Counts {
                seen: 1,
                confirmed: 1,
                ..Counts::default()
            }
        );
        assert!(counts.balances());
    }
}
