//! Where the belt is, was, and when it will be somewhere.
//!
//! Position comes from encoder counts, or from time × speed while the
//! belt-running input is active. A short history allows a stamp of the near
//! past (a photo-eye edge, a mid-exposure) to be turned into the position the
//! belt had then. Reverse motion subtracts. Integers only.

use crate::config;
use crate::units::{BeltPosition, Instant, Length, Micros, Speed};

/// Samples kept. At [`SAMPLE_APART`] this is half a second: more than any frame
/// or debounced edge arrives late.
const HISTORY: usize = 512;
/// Samples nearer than this replace each other, so that a fast encoder does not
/// shorten the remembered time.
const SAMPLE_APART: Micros = Micros::new(1_000);
/// Devices hand counts in up to this late.
const BATCH: Micros = Micros::from_millis(10);
/// A belt whose encoder is silent this long is taken to stand: three batches missing is no coincidence.
const SILENCE_MIN: Micros = Micros::new(3 * BATCH.get());
/// A slow belt may be silent for longer. How fast it can still be falls with every look.
const LOOK_AGAIN: Micros = Micros::from_millis(5);
/// Shortest and longest stretch the speed is taken over, and how many counts it
/// should cover: 32 counts keep the rounding of a count near 3 %.
const SPEED_OVER_MIN: Micros = Micros::from_millis(10);
const SPEED_OVER_MAX: Micros = Micros::from_millis(60);
const SPEED_COUNTS: i64 = 32;
/// A belt slower than this part of its lowest working speed is not worth
/// predicting: it is stopping or starting.
const CREEP_DIVISOR: i64 = 10;

/// Over this long a belt that runs back is told from one whose encoder trembles.
const BACK_OVER: Micros = Micros::from_millis(20);
/// Positions of edges are that exact, apart from the counts.
const ROUNDING: Length = Length::from_micrometres(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    at: Instant,
    position: BeltPosition,
    /// The furthest position up to here.
    furthest: BeltPosition,
}

#[derive(Clone, Copy, Debug)]
enum Motion {
    /// Counts per kilometre, so that fractions of a count per mm stay exact.
    Encoder {
        counts_per_km: i64,
        origin: Option<i64>,
    },
    Time {
        speed: Speed,
        running: bool,
    },
}

/// What an encoder reading showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Moved,
    /// Faster than the belt can be: counts were lost, added or reset. The position
    /// went on from where it was; every position known so far is void.
    Jump,
    /// Older than the last one, or not an encoder belt.
    Ignored,
}

#[derive(Clone, Debug)]
pub struct Belt {
    motion: Motion,
    /// What one count is worth; 0 when time is the measure.
    resolution: Length,
    silence: Micros,
    creep: Speed,
    speed_max: Speed,
    /// A ring; `newest` is the place of the last sample.
    history: Vec<Sample>,
    newest: usize,
    speed: Speed,
    /// Up to here no count has come after the last one, long enough to mean that there was none.
    quiet_until: Option<Instant>,
}

impl Belt {
    pub fn new(belt: &config::Belt, now: Instant) -> Belt {
        let (motion, resolution) = match belt.motion {
            config::Motion::Encoder { counts_per_mm, .. } => {
                let counts_per_km = ((counts_per_mm * 1e6).round() as i64).max(1);
                (
                    Motion::Encoder {
                        counts_per_km,
                        origin: None,
                    },
                    1_000_000_000 / counts_per_km,
                )
            }
            config::Motion::Time { speed } => (
                Motion::Time {
                    speed,
                    running: false,
                },
                0,
            ),
        };
        let resolution = Length::from_micrometres(resolution);
        let per_count = belt.speed_min.time_for(resolution).unwrap_or(Micros::ZERO);
        let mut history = Vec::with_capacity(HISTORY);
        history.push(Sample {
            at: now,
            position: BeltPosition::ZERO,
            furthest: BeltPosition::ZERO,
        });
        Belt {
            motion,
            resolution,
            silence: SILENCE_MIN.max(Micros::new(per_count.get() * 3)),
            creep: Speed::from_um_per_s((belt.speed_min.as_um_per_s() / CREEP_DIVISOR).max(1)),
            speed_max: belt.speed_max,
            history,
            newest: 0,
            speed: Speed::ZERO,
            quiet_until: None,
        }
    }

    /// A reading of the encoder.
    pub fn encoder(&mut self, counts: i64, at: Instant) -> Reading {
        let Motion::Encoder {
            counts_per_km,
            origin,
        } = self.motion
        else {
            return Reading::Ignored;
        };
        let last = self.last();
        let Some(zero) = origin else {
            // The first reading is where the belt is now; nothing moved yet.
            self.rebase(counts, last.position);
            self.push(at.max(last.at), last.position);
            return Reading::Moved;
        };
        if at < last.at {
            return Reading::Ignored;
        }
        self.quiet_until = None;
        let position = BeltPosition::from_micrometres(
            (i128::from(counts - zero) * 1_000_000_000 / i128::from(counts_per_km)) as i64,
        );
        let moved = position.since(last.position);
        let elapsed = at.since(last.at);
        if moved.abs() > self.farthest(elapsed) {
            self.rebase(counts, last.position);
            self.push(at, last.position);
            self.forget_furthest();
            self.speed = self.measure();
            return Reading::Jump;
        }
        if elapsed > self.silence && moved.abs().as_micrometres() <= 2 * self.resolution.as_micrometres() {
            // It stood until just now: do not smear one count over the whole pause.
            self.push(at - SAMPLE_APART - SAMPLE_APART, last.position);
        }
        self.push(at, position);
        self.speed = self.measure();
        Reading::Moved
    }

    /// All counts with a stamp before `until` have been told, but for what the device keeps back.
    pub fn heard(&mut self, until: Instant, now: Instant) {
        let (last, until) = (self.last().at, until - BATCH);
        if matches!(self.motion, Motion::Encoder { .. }) && now.since(last) > SILENCE_MIN && until > last {
            self.quiet_until = Some(until);
        }
    }

    /// The belt-running input changed.
    pub fn running(&mut self, active: bool, at: Instant) {
        let position = self.position_at(at);
        let at = at.max(self.last().at);
        if let Motion::Time { speed, running } = &mut self.motion {
            *running = active;
            self.speed = if active { *speed } else { Speed::ZERO };
            self.push(at, position);
        }
    }

    /// Farthest the belt can have moved in `elapsed`: twice its highest speed, and two
    /// counts and 2 mm for the rounding of stamps and counts.
    fn farthest(&self, elapsed: Micros) -> Length {
        let slack = Length::from_micrometres(2 * self.resolution.as_micrometres() + 2_000);
        self.speed_max.travel(elapsed + elapsed) + slack
    }

    /// From now on `counts` means `position`.
    fn rebase(&mut self, counts: i64, position: BeltPosition) {
        if let Motion::Encoder {
            counts_per_km,
            origin,
        } = &mut self.motion
        {
            let offset = i128::from(position.as_micrometres()) * i128::from(*counts_per_km) / 1_000_000_000;
            *origin = Some(counts - offset as i64);
        }
    }

    fn last(&self) -> Sample {
        self.history[self.newest]
    }

    /// The sample `back` places before the newest.
    fn sample(&self, back: usize) -> Option<Sample> {
        let len = self.history.len();
        (back < len).then(|| self.history[(self.newest + len - back) % len])
    }

    /// What was known of the belt's motion is void: it has been no further than it is.
    pub fn forget_furthest(&mut self) {
        let newest = &mut self.history[self.newest];
        newest.furthest = newest.position;
    }

    fn push(&mut self, at: Instant, position: BeltPosition) {
        let furthest = position.max(self.last().furthest);
        let sample = Sample {
            at,
            position,
            furthest,
        };
        // Two samples must stay apart from each other, or a fast encoder would keep
        // replacing the newest one for ever: compare with the one before it.
        if let Some(before) = self.sample(1)
            && sample.at.since(before.at) < SAMPLE_APART
        {
            self.history[self.newest] = sample;
        } else if self.history.len() < HISTORY {
            self.history.push(sample);
            self.newest = self.history.len() - 1;
        } else {
            self.newest = (self.newest + 1) % HISTORY;
            self.history[self.newest] = sample;
        }
    }

    fn measure(&self) -> Speed {
        let last = self.last();
        let enough = Length::from_micrometres(self.resolution.as_micrometres() * SPEED_COUNTS);
        let mut best = None;
        for back in 1..self.history.len() {
            let Some(sample) = self.sample(back) else { break };
            let over = last.at.since(sample.at);
            if over > SPEED_OVER_MAX && best.is_some() {
                break;
            }
            best = Some(sample);
            if over >= SPEED_OVER_MIN && last.position.since(sample.position).abs() >= enough {
                break;
            }
        }
        let Some(from) = best else { return Speed::ZERO };
        let over = last.at.since(from.at).get();
        if over <= 0 {
            return self.speed;
        }
        let moved = last.position.since(from.position).as_micrometres();
        Speed::from_um_per_s((i128::from(moved) * 1_000_000 / i128::from(over)) as i64)
    }

    /// Speed as last measured, but no faster than an encoder lets it be that has not told of another
    /// count since; zero when it has been silent for longer than the slowest belt would be.
    pub fn speed(&self, now: Instant) -> Speed {
        let quiet = now.since(self.last().at);
        match self.motion {
            Motion::Encoder { .. } if quiet > self.silence => Speed::ZERO,
            Motion::Encoder { .. } if quiet > SILENCE_MIN => {
                let most = self.resolution.as_micrometres() * 1_000_000 / (quiet.get() - SILENCE_MIN.get());
                Speed::from_um_per_s(self.speed.as_um_per_s().clamp(-most, most))
            }
            _ => self.speed,
        }
    }

    /// How far off the measured speed may be: two counts over the longest stretch.
    pub fn speed_noise(&self) -> Speed {
        let counts = 2 * self.resolution.as_micrometres();
        Speed::from_um_per_s(counts * 1_000_000 / SPEED_OVER_MAX.get())
    }

    /// Not moving forward at a speed worth predicting from.
    pub fn stands(&self, now: Instant) -> bool {
        self.speed(now) < self.creep
    }

    /// When a belt is slower than before, or counts as standing, unless another sample comes.
    pub fn slower_at(&self, now: Instant) -> Option<Instant> {
        match self.motion {
            Motion::Encoder { .. } if self.speed != Speed::ZERO => {
                let last = self.last().at;
                let stands = last + self.silence + Micros::new(1);
                Some(stands.min((last + SILENCE_MIN).max(now) + LOOK_AGAIN))
            }
            _ => None,
        }
    }

    /// Stamp of the newest sample; a position later than this is a prediction.
    pub fn known_until(&self) -> Instant {
        match self.motion {
            Motion::Encoder { .. } => self.last().at,
            Motion::Time { .. } => Instant::MAX,
        }
    }

    /// Position of the belt at `at`: interpolated in the past, predicted from the
    /// speed in the near future. Before the oldest sample it is that sample's.
    pub fn position_at(&self, at: Instant) -> BeltPosition {
        let last = self.last();
        if at >= last.at {
            return last.position
                + match self.motion {
                    Motion::Encoder { .. } => self.predicted(at),
                    Motion::Time { .. } => self.speed.travel(at.since(last.at)),
                };
        }
        let mut later = last;
        for back in 1..self.history.len() {
            let Some(sample) = self.sample(back) else { break };
            if sample.at <= at {
                let over = later.at.since(sample.at).get().max(1);
                let moved = later.position.since(sample.position).as_micrometres();
                let part = i128::from(moved) * i128::from(at.since(sample.at).get()) / i128::from(over);
                return sample.position + Length::from_micrometres(part as i64);
            }
            later = sample;
        }
        later.position
    }

    /// How far an encoder's belt has come at `at` since its last count: what counts may be under way,
    /// and less than one more. Where it was quiet, nothing is under way.
    fn predicted(&self, at: Instant) -> Length {
        let last = self.last().at;
        let (from, under_way) = match self.quiet_until {
            Some(quiet) => (quiet, Length::ZERO),
            None => (last, self.speed.travel(SILENCE_MIN).abs()),
        };
        let most = (under_way + self.resolution).as_micrometres();
        let ahead = at.since(from).get().clamp(0, self.silence.get());
        let ahead = self.speed.travel(Micros::new(ahead)).as_micrometres();
        Length::from_micrometres(ahead.clamp(-most, most))
    }

    /// Two sightings of one edge lie no further apart than this.
    pub fn rounding(&self) -> Length {
        Length::from_micrometres(2 * self.resolution.as_micrometres()) + ROUNDING
    }

    /// Up to this instant the belt stood, crept or ran back.
    pub fn hardly_moved(&self, at: Instant) -> bool {
        self.position_at(at).since(self.position_at(at - BACK_OVER)) <= self.rounding()
    }

    /// At this instant the belt ran back, or had been pulled back and not come on again: whatever an
    /// eye then sees come or go was in front of it before.
    pub fn seen_before(&self, at: Instant) -> bool {
        let here = self.position_at(at) + self.rounding();
        let mut samples = (0..self.history.len()).map_while(|back| self.sample(back));
        let before = samples.find(|sample| sample.at <= at);
        here < before.map_or(BeltPosition::ZERO, |sample| sample.furthest)
            || here < self.position_at(at - BACK_OVER)
    }

    /// The belt moves back, beyond the noise of its encoder.
    pub fn runs_back(&self, now: Instant) -> bool {
        let noise = self.creep.as_um_per_s() + self.speed_noise().as_um_per_s();
        self.speed(now).as_um_per_s() < -noise
    }

    /// When the belt reaches `position` at its present speed; `None` while it stands.
    pub fn when(&self, position: BeltPosition, now: Instant) -> Option<Instant> {
        if self.stands(now) {
            return None;
        }
        let last = self.last();
        Some(last.at + self.speed(now).time_for(position.since(last.position))?)
    }

    /// When the belt first reached `position`, looking back from the newest sample;
    /// `None` if it has not, or longer ago than the history goes (then the oldest sample).
    pub fn reached_at(&self, position: BeltPosition, now: Instant) -> Option<Instant> {
        let last = self.last();
        if last.position < position {
            return self.when(position, now).filter(|&at| at <= now);
        }
        let mut later = last;
        for back in 1..self.history.len() {
            let Some(sample) = self.sample(back) else { break };
            if sample.position < position {
                let moved = later.position.since(sample.position).as_micrometres().max(1);
                let over = i128::from(later.at.since(sample.at).get());
                let part =
                    over * i128::from(position.since(sample.position).as_micrometres()) / i128::from(moved);
                return Some(sample.at + Micros::new(part as i64));
            }
            later = sample;
        }
        Some(later.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::station::testing;

    fn at(ms: i64) -> Instant {
        Instant::from_micros(ms * 1_000)
    }

    /// Encoder of 4 counts per mm at 500 mm/s: 2 counts a millisecond.
    fn moving(ms: i64) -> Belt {
        let mut belt = Belt::new(&testing::config().belt, at(0));
        for t in 0..=ms {
            belt.encoder(1_000 + 2 * t, at(t));
        }
        belt
    }

    #[test]
    fn counts_become_micrometres_and_speed() {
        let belt = moving(200);
        assert_eq!(belt.position_at(at(200)), BeltPosition::from_micrometres(100_000));
        assert_eq!(belt.speed(at(200)), Speed::from_um_per_s(500_000));
    }

    #[test]
    fn positions_between_and_after_samples_are_interpolated() {
        let belt = moving(200);
        let between = Instant::from_micros(100_500);
        assert_eq!(belt.position_at(between), BeltPosition::from_micrometres(50_250));
        assert_eq!(belt.position_at(at(210)), BeltPosition::from_micrometres(105_000));
        assert_eq!(
            belt.reached_at(BeltPosition::from_micrometres(50_250), at(200)),
            Some(between)
        );
        assert_eq!(
            belt.when(BeltPosition::from_micrometres(150_000), at(200)),
            Some(at(300))
        );
    }

    #[test]
    fn a_silent_encoder_means_a_standing_belt() {
        let belt = moving(200);
        assert!(!belt.stands(at(230)));
        assert!(belt.stands(at(231)));
        assert_eq!(belt.when(BeltPosition::from_micrometres(150_000), at(231)), None);
        // The prediction does not run away while nothing is heard.
        assert_eq!(
            belt.position_at(at(9_000)),
            BeltPosition::from_micrometres(115_000)
        );
    }

    /// Of a belt that may be slow, a count can be long in coming. That is no reason to believe that it runs on as
    /// fast as it did.
    #[test]
    fn a_slow_belts_silent_encoder_means_that_it_became_slower() {
        let mut config = testing::config().belt;
        config.speed_min = Speed::from_um_per_s(1_000);
        let mut belt = Belt::new(&config, at(0));
        for t in 0..=200 {
            belt.encoder(2 * t, at(t));
        }
        let ahead = BeltPosition::from_micrometres(150_000);
        assert_eq!(belt.speed(at(230)), Speed::from_um_per_s(500_000));
        assert_eq!(belt.when(ahead, at(230)), Some(at(300)));
        // Within 70 ms no second count of a quarter of a millimetre: less than that in the last 40.
        assert_eq!(belt.speed(at(270)), Speed::from_um_per_s(6_250));
        let reached = belt.when(ahead, at(270)).expect("it creeps");
        assert!(reached > at(8_000), "{reached:?}");
        assert_eq!(
            belt.position_at(at(900)),
            BeltPosition::from_micrometres(115_250),
            "what may be under way, and one count"
        );
        belt.heard(at(270), at(270));
        assert_eq!(belt.position_at(at(255)), BeltPosition::from_micrometres(100_000));
        assert_eq!(
            belt.position_at(at(900)),
            BeltPosition::from_micrometres(100_250),
            "nothing is under way"
        );
        assert!(!belt.stands(at(949)) && belt.stands(at(951)));
        let looks = std::iter::successors(Some(at(200)), |&now| belt.slower_at(now).filter(|&at| at > now));
        let looks: Vec<_> = looks.collect();
        assert_eq!(looks[1], at(235));
        assert!(
            looks
                .windows(2)
                .all(|pair| pair[1].since(pair[0]) <= Micros::from_millis(35))
        );
        assert_eq!(looks.last(), Some(&Instant::from_micros(950_001)));
    }

    #[test]
    fn reverse_motion_subtracts() {
        let mut belt = moving(200);
        for t in 1..=50 {
            belt.encoder(1_400 - 2 * t, at(200 + t));
        }
        assert_eq!(belt.position_at(at(250)), BeltPosition::from_micrometres(75_000));
        assert!(belt.speed(at(250)) < Speed::ZERO);
        assert!(belt.stands(at(250)));
        assert!(belt.runs_back(at(250)));
    }

    #[test]
    fn what_an_eye_sees_on_a_belt_that_was_pulled_back_was_seen_before() {
        let mut belt = moving(200);
        assert!((0..=200).all(|ms| !belt.seen_before(at(ms))), "it never ran back");
        // 25 mm back, and on again.
        for t in 1..=50 {
            belt.encoder(1_400 - 2 * t, at(200 + t));
        }
        for t in 1..=100 {
            belt.encoder(1_300 + 2 * t, at(250 + t));
        }
        assert!(!belt.seen_before(at(199)), "before it was pulled");
        assert!(belt.seen_before(at(230)) && belt.seen_before(at(250)));
        assert!(belt.seen_before(at(290)), "not yet where it was");
        assert!(!belt.seen_before(at(302)), "further than ever");
    }

    #[test]
    fn an_encoder_that_trembles_does_not_run_back() {
        let mut belt = moving(200);
        for t in 1..=100 {
            belt.encoder(1_400 - t % 2, at(200 + t));
            assert!(!belt.seen_before(at(200 + t)) && !belt.runs_back(at(200 + t)));
        }
    }

    /// Where it is now, everything is new, however far it seems to have been.
    #[test]
    fn a_jump_forgets_how_far_the_belt_was() {
        let mut belt = moving(200);
        for t in 1..=50 {
            belt.encoder(1_400 - 2 * t, at(200 + t));
        }
        assert_eq!(belt.encoder(9_000, at(251)), Reading::Jump);
        for t in 1..=30 {
            belt.encoder(9_000 + 2 * t, at(251 + t));
        }
        assert!(!belt.seen_before(at(281)));
    }

    #[test]
    fn a_jump_keeps_the_position_and_is_told() {
        let mut belt = moving(200);
        assert_eq!(belt.encoder(9_000, at(201)), Reading::Jump);
        assert_eq!(belt.position_at(at(201)), BeltPosition::from_micrometres(100_000));
        assert_eq!(belt.encoder(9_002, at(202)), Reading::Moved);
        assert_eq!(belt.position_at(at(202)), BeltPosition::from_micrometres(100_500));
    }

    #[test]
    fn starting_after_a_pause_is_not_smeared() {
        let mut belt = moving(10);
        belt.encoder(1_020, at(1_000));
        belt.encoder(1_021, at(2_000));
        assert_eq!(belt.position_at(at(1_500)), BeltPosition::from_micrometres(5_000));
    }

    #[test]
    fn time_counts_only_while_the_belt_runs() {
        let mut config = testing::config();
        config.belt.motion = config::Motion::Time {
            speed: Speed::from_um_per_s(500_000),
        };
        let mut belt = Belt::new(&config.belt, at(0));
        assert_eq!(belt.position_at(at(100)), BeltPosition::ZERO);
        belt.running(true, at(100));
        assert_eq!(belt.position_at(at(300)), BeltPosition::from_micrometres(100_000));
        belt.running(false, at(300));
        assert_eq!(belt.position_at(at(900)), BeltPosition::from_micrometres(100_000));
        assert!(belt.stands(at(900)));
        assert_eq!(belt.position_at(at(200)), BeltPosition::from_micrometres(50_000));
    }

    #[test]
    fn a_fast_encoder_does_not_shorten_the_history() {
        let mut belt = Belt::new(&testing::config().belt, at(0));
        for i in 0..10_000 {
            belt.encoder(i / 5, Instant::from_micros(i * 100));
        }
        let old = belt.position_at(at(600));
        assert!((old.as_micrometres() - 300_000).abs() <= 500, "{old:?}");
    }
}
