//! Quantities a station reckons with, each in one integer unit, so that the
//! same events give the same actions on every machine.
//!
//! | type | unit | meaning |
//! |---|---|---|
//! | [`Instant`] | µs | a point on `CLOCK_MONOTONIC` (or on virtual time) |
//! | [`Micros`] | µs | a length of time, may be negative |
//! | [`BeltPosition`] | µm | where the belt is, since start |
//! | [`Length`] | µm | a distance along the belt, may be negative |
//! | [`Speed`] | µm/s | belt speed, negative when it runs backwards |

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, AddAssign, Neg, Sub};

/// A point in time: µs on `CLOCK_MONOTONIC`, or on the simulator's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instant(i64);

/// A length of time in µs; negative when it lies in the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Micros(i64);

/// Position of the belt in µm since the station started counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BeltPosition(i64);

/// A distance in µm, positive in the direction of travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Length(i64);

/// Belt speed in µm/s (1 mm/s = 1,000 µm/s).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Speed(i64);

impl Instant {
    pub const ZERO: Instant = Instant(0);
    pub const MAX: Instant = Instant(i64::MAX);

    pub const fn from_micros(us: i64) -> Self {
        Instant(us)
    }
    pub const fn as_micros(self) -> i64 {
        self.0
    }
    /// Time from `earlier` to `self`; negative if `self` is the earlier one.
    pub const fn since(self, earlier: Instant) -> Micros {
        Micros(self.0.saturating_sub(earlier.0))
    }
}

impl Micros {
    pub const ZERO: Micros = Micros(0);
    pub const MAX: Micros = Micros(i64::MAX);

    pub const fn new(us: i64) -> Self {
        Micros(us)
    }
    pub const fn from_millis(ms: i64) -> Self {
        Micros(ms * 1_000)
    }
    pub const fn from_secs(s: i64) -> Self {
        Micros(s * 1_000_000)
    }
    /// From milliseconds with a fraction; `None` unless finite and within ±10⁹ ms.
    pub fn from_millis_f64(ms: f64) -> Option<Self> {
        scaled(ms, 1_000.0).map(Micros)
    }
    pub const fn get(self) -> i64 {
        self.0
    }
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1_000.0
    }
    /// As a `std` duration, zero when negative.
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_micros(self.0.max(0) as u64)
    }
}

impl BeltPosition {
    pub const ZERO: BeltPosition = BeltPosition(0);

    pub const fn from_micrometres(um: i64) -> Self {
        BeltPosition(um)
    }
    pub const fn as_micrometres(self) -> i64 {
        self.0
    }
    /// Distance the belt moved between `earlier` and `self`.
    pub const fn since(self, earlier: BeltPosition) -> Length {
        Length(self.0.saturating_sub(earlier.0))
    }
}

impl Length {
    pub const ZERO: Length = Length(0);

    pub const fn from_micrometres(um: i64) -> Self {
        Length(um)
    }
    pub const fn from_mm(mm: i64) -> Self {
        Length(mm * 1_000)
    }
    /// From millimetres with a fraction; `None` unless finite and within ±10⁹ mm.
    pub fn from_mm_f64(mm: f64) -> Option<Self> {
        scaled(mm, 1_000.0).map(Length)
    }
    pub const fn as_micrometres(self) -> i64 {
        self.0
    }
    pub fn as_mm_f64(self) -> f64 {
        self.0 as f64 / 1_000.0
    }
    pub const fn abs(self) -> Self {
        Length(self.0.abs())
    }
    pub const fn half(self) -> Self {
        Length(self.0 / 2)
    }
}

impl Speed {
    pub const ZERO: Speed = Speed(0);

    pub const fn from_um_per_s(um_s: i64) -> Self {
        Speed(um_s)
    }
    /// From mm/s with a fraction; `None` unless finite and within ±10⁹ mm/s.
    pub fn from_mm_per_s(mm_s: f64) -> Option<Self> {
        scaled(mm_s, 1_000.0).map(Speed)
    }
    pub const fn as_um_per_s(self) -> i64 {
        self.0
    }
    pub fn as_mm_per_s(self) -> f64 {
        self.0 as f64 / 1_000.0
    }
    /// How far the belt moves in `time`, rounded to the nearest µm.
    pub fn travel(self, time: Micros) -> Length {
        Length(div_round(i128::from(self.0) * i128::from(time.0), 1_000_000))
    }
    /// How long the belt takes for `distance`, rounded to the nearest µs;
    /// `None` when the belt does not move forward.
    pub fn time_for(self, distance: Length) -> Option<Micros> {
        (self.0 > 0).then(|| Micros(div_round(i128::from(distance.0) * 1_000_000, i128::from(self.0))))
    }
}

/// Nearest integer to `a / b` (b > 0), halves away from zero, saturating at the ends of i64.
fn div_round(a: i128, b: i128) -> i64 {
    let half = if a >= 0 { b / 2 } else { -(b / 2) };
    ((a + half) / b).clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

fn scaled(value: f64, scale: f64) -> Option<i64> {
    (value.is_finite() && value.abs() <= 1e9).then(|| (value * scale).round() as i64)
}

macro_rules! arithmetic {
    ($point:ident, $step:ident) => {
        impl Add<$step> for $point {
            type Output = $point;
            fn add(self, step: $step) -> $point {
                $point(self.0.saturating_add(step.0))
            }
        }
        impl Sub<$step> for $point {
            type Output = $point;
            fn sub(self, step: $step) -> $point {
                $point(self.0.saturating_sub(step.0))
            }
        }
        impl AddAssign<$step> for $point {
            fn add_assign(&mut self, step: $step) {
                *self = *self + step;
            }
        }
    };
}
arithmetic!(Instant, Micros);
arithmetic!(Micros, Micros);
arithmetic!(BeltPosition, Length);
arithmetic!(Length, Length);

impl Neg for Length {
    type Output = Length;
    fn neg(self) -> Length {
        Length(-self.0)
    }
}

impl Neg for Micros {
    type Output = Micros;
    fn neg(self) -> Micros {
        Micros(-self.0)
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms", self.as_millis_f64())
    }
}
impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} mm", self.as_mm_f64())
    }
}
impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} mm/s", self.as_mm_per_s())
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident($repr:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $repr);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
ids! {
    /// A track of parts on the belt. One per station for now.
    LaneId(u8);
    /// A camera, in the order of the configuration. One per station for now.
    CameraId(u8);
    /// The number of a part. Durably reserved, never used twice.
    PartId(u64);
    /// A frame, numbered by elek as it arrives (the driver's own count is its `sequence`).
    FrameId(u64);
    /// One actuation of a reject; covers several parts when their windows merge.
    PulseId(u64);
    /// A recipe, by its place in `Config::recipes`.
    RecipeId(u16);
    /// An output line, by its place in `Config::outputs`.
    OutputId(u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn travel_and_time_are_inverse_to_a_micrometre() {
        let v = Speed::from_mm_per_s(333.3).unwrap();
        for mm in [0, 1, 35, 420, 10_000] {
            let d = Length::from_mm(mm);
            let t = v.time_for(d).unwrap();
            assert!(v.travel(t).since_abs(d) <= 1, "{mm} mm");
        }
    }

    #[test]
    fn a_standing_or_reversing_belt_never_arrives() {
        assert_eq!(Speed::ZERO.time_for(Length::from_mm(1)), None);
        assert_eq!(Speed::from_um_per_s(-5).time_for(Length::from_mm(1)), None);
    }

    #[test]
    fn rounding_is_symmetric_about_zero() {
        assert_eq!(div_round(5, 2), 3);
        assert_eq!(div_round(-5, 2), -3);
        assert_eq!(div_round(4, 3), 1);
    }

    #[test]
    fn no_quantity_is_made_of_nonsense() {
        assert_eq!(Micros::from_millis_f64(f64::NAN), None);
        assert_eq!(Length::from_mm_f64(f64::INFINITY), None);
        assert_eq!(Speed::from_mm_per_s(1e300), None);
    }

    impl Length {
        fn since_abs(self, other: Length) -> i64 {
            (self.0 - other.0).abs()
        }
    }
}
