//! Belt motor and encoder of the simulated line.

use super::rng::Rng;
use super::world::{TICK, WorldOptions};
use crate::config::{Belt, Motion};
use crate::units::{Micros, Speed};

/// How fast a person pulls a belt back, µm/s: slower than any belt of the simulation may run, so that
/// the counts of one sample do not look like lost ones.
const PULL: i64 = 150_000;

/// The belt: runs while permitted, else coasts to a stop.
#[derive(Clone, Debug)]
pub struct Drive {
    /// µm since the world began; goes back only when somebody pulls.
    position: i64,
    speed: i64,
    set: i64,
    accelerate_per_tick: i64,
    brake_per_tick: i64,
    permit: bool,
    /// Fault: the motor runs whatever the permit says.
    runaway: bool,
    /// Somebody pulls the standing belt back, this much further.
    pull: i64,
    encoder: Option<Encoder>,
}

/// A measuring wheel with an error of its own.
#[derive(Clone, Debug)]
struct Encoder {
    counts_per_km: i64,
    error_ppm: i64,
    /// Share of the way the wheel does not follow, in thousandths.
    slip: i64,
    /// Way of the wheel in nm.
    wheel: i64,
    /// What the device had counted before.
    start: i64,
}

impl Drive {
    pub fn new(belt: &Belt, options: &WorldOptions, rng: &mut Rng) -> Self {
        let ticks_per_s = 1_000_000 / TICK.get();
        let set = options.speed;
        let top = belt.speed_max.as_um_per_s().max(set.as_um_per_s());
        let coast = belt.coast.as_micrometres();
        // From v²/(2·coast), 30 % firmer, so that the belt stops within its stated travel.
        let brake = match coast {
            0 => i64::MAX,
            coast => ((i128::from(top) * i128::from(top)) * 13 / (20 * i128::from(coast))) as i64,
        };
        let encoder = match &belt.motion {
            Motion::Encoder { counts_per_mm, .. } => Some(Encoder {
                counts_per_km: (counts_per_mm * 1e6).round() as i64,
                error_ppm: options.encoder_error_ppm,
                slip: 0,
                wheel: 0,
                start: rng.range(-100_000, 100_000),
            }),
            Motion::Time { .. } => None,
        };
        Drive {
            position: 0,
            speed: 0,
            set: set.as_um_per_s(),
            accelerate_per_tick: (options.run_up_mm_s2 * 1_000 / ticks_per_s).max(1),
            brake_per_tick: (brake / ticks_per_s).max(1),
            permit: false,
            runaway: false,
            pull: 0,
            encoder,
        }
    }

    pub fn permit(&mut self, on: bool) {
        self.permit = on;
    }
    pub fn set_speed(&mut self, speed: Speed) {
        self.set = speed.as_um_per_s();
    }
    pub fn runaway(&mut self, on: bool) {
        self.runaway = on;
    }
    /// Somebody pulls the belt back as soon as it stands, and lets go when the motor starts.
    pub fn pull_back(&mut self, um: i64) {
        self.pull = um;
    }
    pub fn slip(&mut self, per_mille: i64) {
        if let Some(encoder) = &mut self.encoder {
            encoder.slip = per_mille;
        }
    }
    /// Counts appear or vanish in the device.
    pub fn jump(&mut self, counts: i64) {
        if let Some(encoder) = &mut self.encoder {
            encoder.start += counts;
        }
    }
    pub fn position(&self) -> i64 {
        self.position
    }
    pub fn speed(&self) -> i64 {
        self.speed
    }
    /// The contact that tells the station that the belt runs.
    pub fn is_running(&self) -> bool {
        self.speed > 0 && self.speed * 2 >= self.set
    }

    /// What the counter device reads, `None` without an encoder.
    pub fn counts(&self) -> Option<i64> {
        let e = self.encoder.as_ref()?;
        let counted = (i128::from(e.wheel) * i128::from(e.counts_per_km)).div_euclid(1_000_000_000_000);
        Some(e.start + counted as i64)
    }

    /// The motor's answer at the start of a tick; within the tick the speed is constant.
    pub fn begin_tick(&mut self) {
        let driven = self.permit || self.runaway;
        if driven {
            self.pull = 0;
        }
        if self.pull > 0 && self.speed <= 0 {
            self.speed = -PULL;
            self.pull -= PULL * TICK.get() / 1_000_000;
            return;
        }
        // Who lets go of a belt leaves it standing.
        self.speed = self.speed.max(0);
        let target = if driven { self.set } else { 0 };
        self.speed = match target {
            t if t > self.speed => t.min(self.speed.saturating_add(self.accelerate_per_tick)),
            t => t.max(self.speed.saturating_sub(self.brake_per_tick)),
        };
    }

    /// Where the belt is `after` the start of the current tick.
    pub fn position_after(&self, after: Micros) -> i64 {
        self.position + self.speed * after.get() / 1_000_000
    }

    pub fn end_tick(&mut self) {
        let moved = self.position_after(TICK) - self.position;
        self.position += moved;
        if let Some(e) = &mut self.encoder {
            let followed = moved * (1_000 - e.slip);
            e.wheel += followed + followed * e.error_ppm / 1_000_000;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EncoderSource;
    use crate::units::{LaneId, Length, OutputId};

    fn belt(coast_mm: i64) -> Belt {
        Belt {
            lane: LaneId(0),
            speed_min: Speed::from_um_per_s(100_000),
            speed_max: Speed::from_um_per_s(600_000),
            permit: OutputId(0),
            running: None,
            coast: Length::from_mm(coast_mm),
            motion: Motion::Encoder {
                counts_per_mm: 4.0,
                reverse: false,
                source: EncoderSource::Simulated,
            },
        }
    }

    fn options(speed: i64) -> WorldOptions {
        let line = crate::simulate::line::Line::draw(&mut Rng::new(1));
        WorldOptions {
            speed: Speed::from_um_per_s(speed),
            encoder_error_ppm: 0,
            ..line.world
        }
    }

    fn ticks(drive: &mut Drive, n: u32) {
        for _ in 0..n {
            drive.begin_tick();
            drive.end_tick();
        }
    }

    #[test]
    fn the_belt_runs_up_and_coasts_within_its_travel() {
        for coast in [0, 3, 80, 500] {
            let mut drive = Drive::new(&belt(coast), &options(600_000), &mut Rng::new(coast as u64));
            ticks(&mut drive, 1_000);
            assert_eq!(drive.speed(), 0, "moves without permit");
            drive.permit(true);
            ticks(&mut drive, 2_000);
            assert_eq!(drive.speed(), 600_000);
            assert!(drive.is_running());
            let before = drive.position();
            drive.permit(false);
            ticks(&mut drive, 5_000);
            assert_eq!(drive.speed(), 0);
            assert!(
                drive.position() - before <= coast * 1_000,
                "coasted {} µm",
                drive.position() - before
            );
        }
    }

    #[test]
    fn a_standing_belt_can_be_pulled_back_until_the_motor_starts() {
        let mut drive = Drive::new(&belt(0), &options(500_000), &mut Rng::new(1));
        drive.permit(true);
        ticks(&mut drive, 1_000);
        drive.permit(false);
        ticks(&mut drive, 10);
        let (stood, counted) = (drive.position(), drive.counts().unwrap());
        drive.pull_back(30_000);
        ticks(&mut drive, 1_000);
        assert_eq!(drive.position(), stood - 30_000);
        assert_eq!(drive.counts().unwrap(), counted - 120);
        drive.pull_back(30_000);
        ticks(&mut drive, 100);
        drive.permit(true);
        ticks(&mut drive, 10);
        assert!(drive.speed() > 0);
        assert!(drive.position() > stood - 60_000, "it was let go");
    }

    #[test]
    fn the_encoder_counts_the_way_and_loses_it_when_slipping() {
        let mut drive = Drive::new(&belt(0), &options(500_000), &mut Rng::new(1));
        let start = drive.counts().unwrap();
        drive.permit(true);
        ticks(&mut drive, 3_000);
        let way = drive.position();
        assert_eq!(drive.counts().unwrap() - start, way * 4 / 1_000);
        drive.slip(1_000);
        let held = drive.counts();
        ticks(&mut drive, 100);
        assert_eq!(drive.counts(), held);
        assert!(drive.position() > way);
    }
}
