//! Rates and margins for people: the last minute, the last 200 parts.

use crate::status::TimingMargin;
use crate::units::{Instant, Micros};
use std::collections::VecDeque;

/// What "the last parts" means on the display.
const LAST: usize = 200;
const SECONDS: usize = 60;

#[derive(Clone, Debug)]
pub struct Stats {
    /// Parts per second, by second of the clock modulo a minute.
    seconds: [u32; SECONDS],
    second: i64,
    ended: VecDeque<bool>,
    margins: VecDeque<Micros>,
}

impl Stats {
    pub fn new(now: Instant) -> Stats {
        Stats {
            seconds: [0; SECONDS],
            second: second(now),
            ended: VecDeque::with_capacity(LAST),
            margins: VecDeque::with_capacity(LAST),
        }
    }

    fn turn(&mut self, now: Instant) {
        let now = second(now);
        // Clear the seconds that went by since the last part; a minute clears all.
        for s in (self.second + 1).max(now - SECONDS as i64 + 1)..=now {
            self.seconds[s.rem_euclid(SECONDS as i64) as usize] = 0;
        }
        self.second = self.second.max(now);
    }

    pub fn seen(&mut self, now: Instant) {
        self.turn(now);
        self.seconds[self.second.rem_euclid(SECONDS as i64) as usize] += 1;
    }

    pub fn ended(&mut self, rejected: bool) {
        keep(&mut self.ended, rejected);
    }

    pub fn margin(&mut self, left: Micros) {
        keep(&mut self.margins, left);
    }

    pub fn parts_per_min(&self, now: Instant) -> f32 {
        let mut turned = self.seconds;
        let now = second(now);
        for s in (self.second + 1).max(now - SECONDS as i64 + 1)..=now {
            turned[s.rem_euclid(SECONDS as i64) as usize] = 0;
        }
        turned.iter().sum::<u32>() as f32
    }

    pub fn reject_rate(&self) -> f32 {
        if self.ended.is_empty() {
            return 0.0;
        }
        self.ended.iter().filter(|&&rejected| rejected).count() as f32 / self.ended.len() as f32
    }

    pub fn timing(&self) -> Option<TimingMargin> {
        Some(TimingMargin {
            last: *self.margins.back()?,
            smallest: *self.margins.iter().min()?,
        })
    }
}

fn second(at: Instant) -> i64 {
    at.as_micros().div_euclid(1_000_000)
}

fn keep<T>(last: &mut VecDeque<T>, value: T) {
    if last.len() == LAST {
        last.pop_front();
    }
    last.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(s: i64) -> Instant {
        Instant::from_micros(s * 1_000_000)
    }

    #[test]
    fn only_the_last_minute_counts() {
        let mut stats = Stats::new(s(0));
        for t in 0..120 {
            stats.seen(s(t));
            stats.seen(s(t));
        }
        assert_eq!(stats.parts_per_min(s(119)), 120.0);
        assert_eq!(stats.parts_per_min(s(149)), 60.0);
        assert_eq!(stats.parts_per_min(s(999)), 0.0);
        stats.seen(s(999));
        assert_eq!(stats.parts_per_min(s(999)), 1.0);
    }

    #[test]
    fn only_the_last_parts_count() {
        let mut stats = Stats::new(s(0));
        assert_eq!(stats.reject_rate(), 0.0);
        assert_eq!(stats.timing(), None);
        for i in 0..400 {
            stats.ended(i >= 300);
            stats.margin(Micros::new(if i == 0 { 1 } else { 1_000 + i }));
        }
        assert_eq!(stats.reject_rate(), 0.5);
        let timing = stats.timing().unwrap();
        assert_eq!(
            (timing.last, timing.smallest),
            (Micros::new(1_399), Micros::new(1_200))
        );
    }
}
