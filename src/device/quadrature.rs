//! An encoder on one or two lines, from edges to a signed count. Pure.
//!
//! ```text
//!  a  ──┐  ┌──┐  ┌──      forward: a leads b; each edge of either line is a count (×4)
//!       └──┘  └──┘
//!  b  ┐  ┌──┐  ┌──┐       a alone: each edge to active is a count forward (×1)
//!     └──┘  └──┘  └
//! ```

/// Which line of the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    A,
    B,
}

/// A line went to the level it already had: the edge before was lost, and the count is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illegal;

#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    a: bool,
    /// `None`: there is no second line, and the belt only runs forward.
    b: Option<bool>,
    count: i64,
}

impl Decoder {
    /// Starts at these levels.
    pub fn new(a: bool, b: Option<bool>) -> Decoder {
        Decoder { a, b, count: 0 }
    }

    pub fn count(&self) -> i64 {
        self.count
    }

    pub fn levels(&self) -> (bool, Option<bool>) {
        (self.a, self.b)
    }

    /// Goes on from these levels, the count moved by `jump`.
    pub fn restart(&mut self, a: bool, b: Option<bool>, jump: i64) {
        *self = Decoder {
            a,
            b,
            count: self.count + jump,
        };
    }

    /// Takes an edge; edges of both lines must come in the order of their stamps.
    pub fn edge(&mut self, phase: Phase, active: bool) -> Result<(), Illegal> {
        let level = match (phase, &mut self.b) {
            (Phase::A, _) => &mut self.a,
            (Phase::B, Some(b)) => b,
            (Phase::B, None) => return Ok(()),
        };
        if *level == active {
            return Err(Illegal);
        }
        *level = active;
        self.count += match (phase, self.b) {
            (_, None) => i64::from(active),
            // Forward, a has gone ahead of b, and b follows.
            (Phase::A, Some(b)) if self.a != b => 1,
            (Phase::B, Some(b)) if self.a == b => 1,
            _ => -1,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Levels of a and b at a place, from the pattern of the disc.
    fn levels(place: i64) -> (bool, bool) {
        match place.rem_euclid(4) {
            0 => (false, false),
            1 => (true, false),
            2 => (true, true),
            _ => (false, true),
        }
    }

    /// The one edge from a place to its neighbour.
    fn edge(from: i64, to: i64) -> (Phase, bool) {
        let (before, after) = (levels(from), levels(to));
        match before.0 == after.0 {
            true => (Phase::B, after.1),
            false => (Phase::A, after.0),
        }
    }

    proptest! {
        #[test]
        fn the_count_is_where_the_disc_is(start in -9i64..9, steps in prop::collection::vec(any::<bool>(), 0..400)) {
            let (a, b) = levels(start);
            let mut decoder = Decoder::new(a, Some(b));
            let mut place = start;
            for forward in steps {
                let to = if forward { place + 1 } else { place - 1 };
                let (phase, active) = edge(place, to);
                prop_assert_eq!(decoder.edge(phase, active), Ok(()));
                place = to;
                prop_assert_eq!(decoder.count(), place - start);
            }
        }

        #[test]
        fn a_lost_edge_is_noticed_once(lost in 0usize..20, forward in any::<bool>()) {
            let step = if forward { 1 } else { -1 };
            let mut decoder = Decoder::new(false, Some(false));
            let mut illegal = 0;
            for number in 0..40 {
                let (phase, active) = edge(number * step, (number + 1) * step);
                if number as usize != lost {
                    illegal += usize::from(decoder.edge(phase, active).is_err());
                }
            }
            prop_assert_eq!(illegal, 1);
            prop_assert!((decoder.count() - 40 * step).abs() <= 4);
        }
    }

    #[test]
    fn one_line_alone_counts_edges_to_active() {
        let mut decoder = Decoder::new(true, None);
        for active in [false, true, false, true] {
            assert_eq!(decoder.edge(Phase::A, active), Ok(()));
        }
        assert_eq!(decoder.count(), 2);
        assert_eq!(decoder.edge(Phase::A, true), Err(Illegal));
        decoder.restart(false, None, 100);
        assert_eq!(decoder.edge(Phase::A, true), Ok(()));
        assert_eq!(decoder.count(), 103);
    }
}
