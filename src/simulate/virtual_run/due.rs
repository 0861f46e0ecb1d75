//! What is under way, in the order in which it arrives.

use crate::station::event::Event;
use crate::units::Instant;

/// What is on its way to the core.
pub(super) enum Delivery {
    Event(Event),
    /// The process is back after a crash.
    Restart,
    OutputsOpen,
}

pub(super) struct Due(pub(super) Instant, pub(super) u64, pub(super) Delivery);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}
