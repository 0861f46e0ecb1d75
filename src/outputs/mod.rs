//! The output process: the one place from which lines are switched.
//!
//! Duties:
//! 1. Switch each line at the absolute instant it was told, and say when it really happened.
//! 2. End every pulse at the line's longest on-time at the latest, and report that as a fault.
//! 3. Put every line into its safe state when the other side closes, hangs
//!    ([`table::HEARTBEAT_MAX`] without a heartbeat) or sends nonsense; and stay there
//!    until a new session is opened.
//!
//! Terms:
//! - *order*: what `elek run` wants (fire, cancel, set, heartbeat, bye).
//! - *session*: from a complete greeting to the first reason for the safe state.
//! - *pulsed line*: has a longest on-time and takes only pulses (a reject).
//! - *held line*: has none and takes only levels (permit, beacon).
//!
//! ```text
//!            greeting complete: pulsed lines off, held lines stay safe
//!   ┌──────┐ ───────────────────────────────────────────────────────▶ ┌──────┐
//!   │ Safe │                                                          │ Live │
//!   └──────┘ ◀─────────────────────────────────────────────────────── └──────┘
//!            closed · bye · hung · nonsense · a line that cannot be set
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `table.rs` | the planned pulses and held levels: pure, no clock, no I/O; also driven by the simulation |
//! | `protocol.rs` | fixed-size messages with magic, sequence number and checksum |
//! | `process.rs` | `elek outputs`: real-time priority, locked memory, absolute timer, the session |
//! | `link.rs` | the side of `elek run`: sends orders, turns reports into station events |
//! | `lateness.rs` | how late lines changed, in classes |

pub mod lateness;
pub mod link;
pub mod process;
pub mod protocol;
pub mod table;
