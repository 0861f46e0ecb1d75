//! How sure a counted share is.

use serde::Serialize;

/// `count` of `of`, with the bounds of the Clopper-Pearson interval at 95 %:
/// the shares at which so many, or so few, would be seen in 2.5 % of trials
/// (C. J. Clopper and E. S. Pearson, Biometrika 26, 1934). Exact, and wide for
/// few pictures; it takes the pictures as independent of each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    pub count: u64,
    pub of: u64,
    pub low: f64,
    pub high: f64,
}

/// Half of what the interval leaves out.
const TAIL: f64 = 0.025;

impl Share {
    pub fn new(count: u64, of: u64) -> Share {
        assert!(count <= of, "a part is not more than the whole");
        let low = if count == 0 {
            0.0
        } else {
            solve(|p| 1.0 - at_most(count - 1, of, p) - TAIL)
        };
        let high = if count == of {
            1.0
        } else {
            solve(|p| TAIL - at_most(count, of, p))
        };
        Share { count, of, low, high }
    }
}

/// Where a rising function of 0..1 crosses zero.
fn solve(f: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if f(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// Chance of at most `k` hits in `n` trials of chance `p`.
fn at_most(k: u64, n: u64, p: f64) -> f64 {
    if p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return if k >= n { 1.0 } else { 0.0 };
    }
    // Terms in logarithms, so that many pictures do not underflow.
    let mut log_term = n as f64 * (1.0 - p).ln();
    let step = p.ln() - (1.0 - p).ln();
    let mut sum = log_term.exp();
    for i in 1..=k.min(n) {
        log_term += ((n - i + 1) as f64).ln() - (i as f64).ln() + step;
        sum += log_term.exp();
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_tables() {
        // Closed forms at the ends, and R's binom.test in between.
        for (count, of, low, high) in [
            (0, 22, 0.0, 1.0 - 0.025f64.powf(1.0 / 22.0)),
            (22, 22, 0.025f64.powf(1.0 / 22.0), 1.0),
            (5, 10, 0.187_086, 0.812_914),
            (1, 31, 0.000_816, 0.167_021),
            (61, 63, 0.889_998, 0.996_131),
            (0, 0, 0.0, 1.0),
        ] {
            let share = Share::new(count, of);
            assert!(
                (share.low - low).abs() < 2e-5 && (share.high - high).abs() < 2e-5,
                "{share:?}"
            );
        }
    }

    #[test]
    fn many_pictures_do_not_underflow() {
        let share = Share::new(50_000, 100_000);
        assert!(
            (share.low - 0.4969).abs() < 1e-4 && (share.high - 0.5031).abs() < 1e-4,
            "{share:?}"
        );
    }
}
