//! The core as a whole, event by event.
