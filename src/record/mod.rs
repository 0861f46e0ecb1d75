//! The record: the account of all parts, and the pictures of some.
//!
//! # Duties
//! - Every entry is in the ring before it is acted on (invariant 1): [`Ring::append`]
//!   stores it to memory that outlives the process, without allocation or waiting.
//! - The journal (SQLite) has it within 200 ms, on the disk; if the disk fails, later,
//!   from the ring.
//! - A part number is durably reserved before it is given, and never given twice.
//! - After any end of the process the account still balances: what was on the belt
//!   is unaccounted ([`recovery`]).
//! - A failing disk raises an alarm and delays nothing (invariant 10). Only when the
//!   ring itself is about to overflow, after many minutes, the permit goes off.
//!
//! # Terms
//! - *entry*: what the station says ([`Entry`](crate::station::event::Entry)).
//! - *line*: an entry, or the record's own note that a process began or ended.
//! - *record*: a line in the ring with its sequence number, the running counts and a checksum.
//! - *reservation*: the numbers below it may be given to parts.
//!
//! # The life of an entry
//! ```text
//! station ── append ──▶ ring (memory-mapped; survives kill -9)
//!                        │  journal thread, every 100 ms
//!                        ▼
//!                      journal.sqlite (WAL, synchronous = FULL; survives power loss)
//!
//! start:  lock ─▶ read both ─▶ recover() ─▶ reserve numbers ─▶ journal takes over ─▶ ring goes on
//! ```
//! # Files of a record folder
//! `lock` (held by one station), `ring`, `journal.sqlite` with its `-wal` and `-shm`,
//! `pictures/YYYY-MM-DD/NUMBER-{reject,pass}[.classify|.segment].png`.

pub mod annotate;
mod entry_codec;
pub mod health;
pub mod journal;
mod lock;
pub mod pictures;
pub mod recorder;
pub mod recovery;
pub mod retention;
pub mod ring;
mod ring_file;
pub mod summary;
pub mod system;

pub(crate) use entry_codec::apply_entry;
pub use entry_codec::{Line, Opened};
pub use journal::{Journal, JournalError};
pub use pictures::{Picture, Square};
pub use recorder::{About, Finished, Hooks, Recorder};
pub use ring::{OpenError, Options, Ring, RingError};
pub use ring_file::Record;
pub use summary::{Span, Summary};
