//! The reject actuator of the simulated line: it answers late, not always
//! equally late, and can get stuck.

use super::rng::Rng;
use crate::config::Reject;
use crate::units::{Instant, Micros};
use std::collections::VecDeque;

/// How an actuator fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Stuck {
    /// Never comes out: no air, broken coil.
    In,
    /// Stays out.
    Out,
    /// Answers, but this much later than stated.
    Late(Micros),
}

#[derive(Clone, Debug)]
pub struct Rejecter {
    lag_on: i64,
    lag_off: i64,
    spread: i64,
    /// Level of the line, as last commanded.
    line: bool,
    /// The actuator is out, at the start of the current tick.
    out: bool,
    /// Changes to come, in order of time.
    pending: VecDeque<(Instant, bool)>,
    stuck: Option<Stuck>,
    rng: Rng,
}

impl Rejecter {
    pub fn new(reject: &Reject, rng: Rng) -> Self {
        Rejecter {
            lag_on: reject.lag_on.get(),
            lag_off: reject.lag_off.get(),
            spread: reject.lag_spread.get(),
            line: false,
            out: false,
            pending: VecDeque::new(),
            stuck: None,
            rng,
        }
    }

    pub fn stick(&mut self, stuck: Option<Stuck>, now: Instant) {
        self.stuck = stuck;
        if stuck.is_none() {
            // Freed: it follows its line again.
            self.schedule(now, self.line);
        }
    }

    pub fn line(&mut self, active: bool, at: Instant) {
        if active == self.line {
            return;
        }
        self.line = active;
        let lag = if active { self.lag_on } else { self.lag_off };
        let late = match self.stuck {
            Some(Stuck::Late(late)) => late.get(),
            _ => 0,
        };
        let answers = at + Micros::new((lag + late + self.rng.range(-self.spread, self.spread)).max(0));
        self.schedule(answers, active);
    }

    fn schedule(&mut self, at: Instant, out: bool) {
        // It cannot go back before it has come out.
        let at = self.pending.back().map_or(at, |last| at.max(last.0));
        self.pending.push_back((at, out));
    }

    /// The stretches of `from..to` in which the actuator is out.
    pub fn out_between(&mut self, from: Instant, to: Instant, stretches: &mut Vec<(Instant, Instant)>) {
        stretches.clear();
        let mut since = from;
        while let Some(&(at, out)) = self.pending.front().filter(|p| p.0 < to) {
            self.pending.pop_front();
            let at = at.max(from);
            if self.out && at > since {
                stretches.push((since, at));
            }
            self.out = out;
            since = at;
        }
        if self.out && since < to {
            stretches.push((since, to));
        }
        match self.stuck {
            Some(Stuck::In) => stretches.clear(),
            Some(Stuck::Out) => {
                stretches.clear();
                stretches.push((from, to));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Length, OutputId};

    fn at(us: i64) -> Instant {
        Instant::from_micros(us)
    }

    fn rejecter() -> Rejecter {
        let reject = Reject {
            name: "air".into(),
            output: OutputId(1),
            distance: Length::from_mm(400),
            footprint: Length::from_mm(6),
            lag_on: Micros::from_millis(9),
            lag_off: Micros::from_millis(12),
            lag_spread: Micros::ZERO,
            max_on: Micros::from_millis(400),
        };
        Rejecter::new(&reject, Rng::new(3))
    }

    #[test]
    fn it_is_out_from_lag_on_to_lag_off() {
        let mut r = rejecter();
        r.line(true, at(1_000));
        r.line(false, at(31_000));
        let mut out = Vec::new();
        r.out_between(at(0), at(100_000), &mut out);
        assert_eq!(out, [(at(10_000), at(43_000))]);
        r.out_between(at(100_000), at(200_000), &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn stuck_in_never_and_stuck_out_always() {
        let mut r = rejecter();
        let mut out = Vec::new();
        r.stick(Some(Stuck::In), at(0));
        r.line(true, at(0));
        r.out_between(at(0), at(50_000), &mut out);
        assert!(out.is_empty());
        r.stick(Some(Stuck::Out), at(50_000));
        r.out_between(at(50_000), at(60_000), &mut out);
        assert_eq!(out, [(at(50_000), at(60_000))]);
        r.line(false, at(60_000));
        r.stick(None, at(60_000));
        r.out_between(at(60_000), at(100_000), &mut out);
        assert_eq!(out, [(at(60_000), at(72_000))], "freed, it ends with its line");
    }
}
