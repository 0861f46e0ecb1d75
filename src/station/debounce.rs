//! Raw edges in, settled levels out, reckoned on the stamps of the edges.
//!
//! A level counts once it has held for `stable`. Its stamp is that of the
//! *first* edge of the burst that led to it: the part was there when the eye
//! saw it first, not when the contact came to rest. A burst ends when no edge
//! came for `stable`.

use crate::units::{Instant, Micros};
use arrayvec::ArrayVec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    pub active: bool,
    /// Of the first edge of the burst.
    pub at: Instant,
}

#[derive(Clone, Debug)]
pub struct Debouncer {
    stable: Micros,
    settled: bool,
    raw: bool,
    /// First and last edge of the burst under way.
    burst: Option<(Instant, Instant)>,
}

/// What an edge brought to light.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Levels that had settled before this edge came, in order; two when an edge was lost.
    pub settled: ArrayVec<Settled, 2>,
    /// Edges do not alternate: the driver lost the one in between.
    pub lost: Option<Lost>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// An edge to active is missing.
    Active,
    /// An edge to inactive is missing.
    Inactive,
}

impl Debouncer {
    pub fn new(stable: Micros) -> Debouncer {
        Debouncer {
            stable,
            settled: false,
            raw: false,
            burst: None,
        }
    }

    /// This is the level, whatever led to it.
    pub fn begin(&mut self, active: bool) {
        (self.raw, self.settled, self.burst) = (active, active, None);
    }

    /// Takes a raw edge.
    pub fn edge(&mut self, active: bool, at: Instant) -> Seen {
        let mut seen = Seen {
            settled: self.poll(at).into_iter().collect(),
            lost: None,
        };
        if active == self.raw {
            // Within a burst the levels around the lost edge are all the same burst.
            if self.burst.is_none() {
                seen.lost = Some(if active { Lost::Inactive } else { Lost::Active });
                if active {
                    // It went inactive unseen and is active again: a new burst begins here.
                    seen.settled.push(Settled { active: false, at });
                    self.settled = false;
                    self.burst = Some((at, at));
                }
            } else if let Some((_, last)) = &mut self.burst {
                *last = at.max(*last);
            }
            return seen;
        }
        self.raw = active;
        self.burst = Some(match self.burst {
            Some((first, last)) => (first, last.max(at)),
            None => (at, at),
        });
        seen
    }

    /// The level that has settled by `now`, if it is another than before.
    pub fn poll(&mut self, now: Instant) -> Option<Settled> {
        let (first, last) = self.burst?;
        if now.since(last) < self.stable {
            return None;
        }
        self.burst = None;
        if self.raw == self.settled {
            return None;
        }
        self.settled = self.raw;
        Some(Settled {
            active: self.raw,
            at: first,
        })
    }

    /// When `poll` may have something to say.
    pub fn deadline(&self) -> Option<Instant> {
        self.burst.map(|(_, last)| last + self.stable)
    }

    pub fn stable(&self) -> Micros {
        self.stable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(us: i64) -> Instant {
        Instant::from_micros(us)
    }
    fn debouncer() -> Debouncer {
        Debouncer::new(Micros::new(800))
    }

    #[test]
    fn a_clean_edge_settles_after_the_stable_time_with_its_own_stamp() {
        let mut d = debouncer();
        assert_eq!(d.edge(true, us(1_000)), Seen::default());
        assert_eq!(d.deadline(), Some(us(1_800)));
        assert_eq!(d.poll(us(1_799)), None);
        assert_eq!(
            d.poll(us(1_800)),
            Some(Settled {
                active: true,
                at: us(1_000)
            })
        );
        assert_eq!(d.poll(us(5_000)), None);
    }

    #[test]
    fn a_bouncing_edge_keeps_the_first_stamp() {
        let mut d = debouncer();
        for (active, at) in [
            (true, 1_000),
            (false, 1_100),
            (true, 1_300),
            (false, 1_700),
            (true, 2_000),
        ] {
            assert_eq!(d.edge(active, us(at)), Seen::default());
        }
        assert_eq!(
            d.poll(us(2_800)),
            Some(Settled {
                active: true,
                at: us(1_000)
            })
        );
    }

    #[test]
    fn noise_is_not_the_beginning_of_a_part() {
        let mut d = debouncer();
        d.edge(true, us(1_000));
        d.edge(false, us(1_100));
        assert_eq!(d.poll(us(1_900)), None);
        d.edge(true, us(10_000));
        assert_eq!(
            d.poll(us(10_800)),
            Some(Settled {
                active: true,
                at: us(10_000)
            })
        );
        // Also without a poll between: the edge itself settles what was before it.
        d.edge(false, us(20_000));
        d.edge(true, us(20_100));
        d.edge(false, us(30_000));
        assert_eq!(
            d.poll(us(30_800)),
            Some(Settled {
                active: false,
                at: us(30_000)
            })
        );
    }

    #[test]
    fn an_edge_settles_what_came_before_it_even_without_a_poll() {
        let mut d = debouncer();
        d.edge(true, us(1_000));
        let seen = d.edge(false, us(60_000));
        assert_eq!(
            seen.settled.as_slice(),
            [Settled {
                active: true,
                at: us(1_000)
            }]
        );
        assert_eq!(
            d.poll(us(60_800)),
            Some(Settled {
                active: false,
                at: us(60_000)
            })
        );
    }

    #[test]
    fn lost_edges_are_noticed() {
        let mut d = debouncer();
        assert_eq!(d.edge(false, us(1_000)).lost, Some(Lost::Active));
        d.edge(true, us(2_000));
        let seen = d.edge(true, us(50_000));
        assert_eq!(seen.lost, Some(Lost::Inactive));
        let settled = [
            Settled {
                active: true,
                at: us(2_000),
            },
            Settled {
                active: false,
                at: us(50_000),
            },
        ];
        assert_eq!(seen.settled.as_slice(), settled);
        assert_eq!(
            d.poll(us(50_800)),
            Some(Settled {
                active: true,
                at: us(50_000)
            })
        );
    }
}
