//! The control socket: how `elek status`, `elek ack` and `elek changeover` reach a
//! running station.
//!
//! A Unix socket `control.sock` in the record folder, mode 0660: whoever is in the
//! station's group may use it. One request a connection, a line of JSON each way:
//!
//! | request | reply |
//! |---|---|
//! | `{"request":"status"}` | `{"status":{…}}`, see [`Status`] |
//! | `{"request":"acknowledge"}` | `"done"`: the station has been told |
//! | `{"request":"changeover","recipe":"NAME"}` | `"done"` |
//! | anything else | `{"error":"what is wrong"}` |
//!
//! `done` means handed over and not carried out: the core is never waited for, and
//! what came of it shows in the status. A client that is slow, silent or sends
//! nonsense costs its own connection (2 s, 4 KiB, eight at a time) and nothing else.

mod client;
mod server;

pub use client::{Client, ClientError};
pub use server::{Control, Setup};

use crate::status::Status;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Name of the socket in the record folder.
const SOCKET: &str = "control.sock";
/// Where a service manager gives the station a folder; the socket is linked from there.
const RUN_FOLDER: &str = "/run/elek";
/// The record folder of a station installed as a service.
const DEFAULT_RECORD: &str = "/var/lib/elek";
/// A recipe's name fits many times over.
const REQUEST_MAX: usize = 4_096;
/// A status is a few KiB; the bound keeps a client from filling its memory.
const REPLY_MAX: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    Status {},
    Acknowledge {},
    Changeover { recipe: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Status(Box<Status>),
    Done,
    Error(String),
}

/// The socket of the station that keeps its record in `record`.
pub fn socket_path(record: &Path) -> PathBuf {
    record.join(SOCKET)
}

/// A path that fits into a socket address (108 bytes), however long the real one is:
/// the folder is opened and named by its descriptor, which must stay open meanwhile.
fn short_path(path: &Path) -> std::io::Result<(PathBuf, Option<std::fs::File>)> {
    use std::os::fd::AsRawFd;
    const ADDRESS_MAX: usize = 107;
    if path.as_os_str().len() <= ADDRESS_MAX {
        return Ok((path.to_owned(), None));
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok((path.to_owned(), None));
    };
    let folder = std::fs::File::open(folder)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    Ok((short, Some(folder)))
}

#[cfg(test)]
mod tests;
