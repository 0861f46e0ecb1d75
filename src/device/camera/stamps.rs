//! When a picture was taken, and whether the driver's word for it can be trusted.

use crate::units::{Instant, Micros};
use serde::Serialize;
use v4l::v4l_sys as sys;

/// How a driver stamps its buffers; read from the flags of every buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stamping {
    pub clock: StampClock,
    pub point: StampPoint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StampClock {
    /// The clock of everything else in this program.
    Monotonic,
    /// The driver does not say; the time of waking up stands in.
    Unknown,
}

/// Which moment of the picture the stamp means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StampPoint {
    StartOfExposure,
    EndOfFrame,
}

/// The driver reads the same clock as we do, later than the stamp; no slack but rounding is needed.
const AHEAD_MAX: Micros = Micros::new(1_000);
/// A buffer may wait that long for a busy machine.
const WAIT_MAX: Micros = Micros::from_secs(2);

impl Stamping {
    pub fn of(flags: u32) -> Stamping {
        let clock = match flags & sys::V4L2_BUF_FLAG_TIMESTAMP_MASK {
            sys::V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC => StampClock::Monotonic,
            _ => StampClock::Unknown,
        };
        let point = match flags & sys::V4L2_BUF_FLAG_TSTAMP_SRC_MASK {
            sys::V4L2_BUF_FLAG_TSTAMP_SRC_SOE => StampPoint::StartOfExposure,
            _ => StampPoint::EndOfFrame,
        };
        Stamping { clock, point }
    }

    /// For a technician.
    pub fn words(self) -> &'static str {
        match (self.clock, self.point) {
            (StampClock::Monotonic, StampPoint::StartOfExposure) => "at the start of exposure",
            (StampClock::Monotonic, StampPoint::EndOfFrame) => "at the end of the frame",
            (StampClock::Unknown, _) => "none to rely on; the time of waking up stands in",
        }
    }

    /// From the stamp to mid-exposure, as far as it can be reckoned: a start for `stamp.offset_us`.
    pub fn usual_offset(self, exposure: Micros, readout: Option<Micros>) -> Micros {
        let half = exposure.get() / 2;
        match self.point {
            StampPoint::StartOfExposure if self.clock == StampClock::Monotonic => Micros::new(half),
            _ => Micros::new(-half - readout.map_or(0, Micros::get)),
        }
    }
}

/// The stamp to go by, or `None` when the driver's is not credible and nothing else is known.
///
/// `woke` is when the buffer was taken, `queue` how long the buffers of the queue can hold pictures.
pub fn credible(stamping: Stamping, stamp: Instant, woke: Instant, queue: Micros) -> Option<Instant> {
    if stamping.clock == StampClock::Unknown {
        return Some(woke);
    }
    let age = woke.since(stamp);
    (age >= Micros::new(-AHEAD_MAX.get()) && age <= WAIT_MAX.max(queue)).then_some(stamp.min(woke))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EOF: u32 = sys::V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    const SOE: u32 = EOF | sys::V4L2_BUF_FLAG_TSTAMP_SRC_SOE;
    const UNSURE: [u32; 2] = [0, sys::V4L2_BUF_FLAG_TIMESTAMP_COPY];

    #[test]
    fn flags_tell_clock_and_moment() {
        // Flags of other matters do not disturb.
        assert_eq!(Stamping::of(SOE | 0x41).point, StampPoint::StartOfExposure);
        assert_eq!(Stamping::of(EOF | 0x4000_0000).point, StampPoint::EndOfFrame);
        assert_eq!(Stamping::of(EOF).clock, StampClock::Monotonic);
        for flags in UNSURE {
            assert_eq!(Stamping::of(flags).clock, StampClock::Unknown);
        }
    }

    #[test]
    fn stamps_of_the_future_and_of_long_ago_are_not_credible() {
        let woke = Instant::from_micros(10_000_000);
        let queue = Micros::from_millis(100);
        let take = |us| credible(Stamping::of(EOF), Instant::from_micros(us), woke, queue);
        assert_eq!(take(9_990_000), Some(Instant::from_micros(9_990_000)));
        assert_eq!(take(8_000_000), Some(Instant::from_micros(8_000_000)));
        assert_eq!(take(7_999_999), None);
        assert_eq!(take(0), None);
        // Rounded up to the next millisecond is no future.
        assert_eq!(take(10_001_000), Some(woke));
        assert_eq!(take(10_001_001), None);
        assert_eq!(take(i64::MAX), None);
        // A slow camera holds its pictures longer.
        let slow = credible(Stamping::of(EOF), Instant::ZERO, woke, Micros::from_secs(20));
        assert_eq!(slow, Some(Instant::ZERO));
    }

    #[test]
    fn without_a_clock_the_time_of_waking_up_stands_in() {
        let woke = Instant::from_micros(10_000_000);
        for flags in UNSURE {
            let stamp = Instant::from_micros(1_700_000_000_000_000);
            assert_eq!(
                credible(Stamping::of(flags), stamp, woke, Micros::ZERO),
                Some(woke)
            );
        }
    }

    #[test]
    fn the_usual_offset_points_to_the_middle_of_the_exposure() {
        let (exposure, readout) = (Micros::new(400), Some(Micros::new(9_000)));
        assert_eq!(
            Stamping::of(SOE).usual_offset(exposure, readout),
            Micros::new(200)
        );
        assert_eq!(
            Stamping::of(EOF).usual_offset(exposure, readout),
            Micros::new(-9_200)
        );
        assert_eq!(Stamping::of(EOF).usual_offset(exposure, None), Micros::new(-200));
        assert_eq!(Stamping::of(0).usual_offset(exposure, None), Micros::new(-200));
    }
}
