//! What runs did, for the summary.

/// What a run did, for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub events: u64,
    pub crossed: u64,
    pub removed: u64,
    pub restarts: u64,
    pub acknowledges: u64,
    pub faults: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.events += other.events;
        self.crossed += other.crossed;
        self.removed += other.removed;
        self.restarts += other.restarts;
        self.acknowledges += other.acknowledges;
        self.faults += other.faults;
    }
}
