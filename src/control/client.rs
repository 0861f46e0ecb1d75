//! The other side of the control socket.

use super::{DEFAULT_RECORD, REPLY_MAX, RUN_FOLDER, Reply, Request, SOCKET, short_path, socket_path};
use crate::status::Status;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The station answers within 2 s or not at all.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where a station is reached.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no station answers at {}: it is not running, or keeps its record elsewhere; then say where: --socket RECORD_FOLDER", .path.display())]
    NotRunning { path: PathBuf },
    #[error("no station is running: nothing answers at {}. If it keeps its record elsewhere, say where: --socket RECORD_FOLDER", list(.tried))]
    NoneFound { tried: Vec<PathBuf> },
    #[error("this user may not speak to the station at {}: become a member of the group that owns the socket, or use sudo", .path.display())]
    NoPermission { path: PathBuf },
    #[error("the station at {} broke off: {cause}", .path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("{} gave an answer that this elek does not understand ({why}): is it the same version?", .path.display())]
    Answer { path: PathBuf, why: String },
    #[error("{0}")]
    Refused(String),
}

fn list(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(" nor ")
}

impl ClientError {
    /// No station was reached, so nothing was done.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            ClientError::NotRunning { .. } | ClientError::NoneFound { .. } | ClientError::NoPermission { .. }
        )
    }
}

impl Client {
    /// The station at `place` (a socket or a record folder), or the one that runs as a service.
    pub fn find(place: Option<&Path>) -> Result<Client, ClientError> {
        if let Some(place) = place {
            let path = if place.is_dir() {
                socket_path(place)
            } else {
                place.to_owned()
            };
            return Ok(Client { path });
        }
        let tried = vec![
            Path::new(RUN_FOLDER).join(SOCKET),
            socket_path(Path::new(DEFAULT_RECORD)),
        ];
        // One that may not be used is the right one all the same: its refusal says more.
        let found = tried
            .iter()
            .find(|path| !matches!(connect(path), Err(ClientError::NotRunning { .. })));
        match found {
            Some(path) => Ok(Client { path: path.clone() }),
            None => Err(ClientError::NoneFound { tried }),
        }
    }

    pub fn status(&self) -> Result<Status, ClientError> {
        match self.ask(&Request::Status {})? {
            Reply::Status(status) => Ok(*status),
            other => Err(self.unexpected(other)),
        }
    }

    pub fn acknowledge(&self) -> Result<(), ClientError> {
        self.tell(&Request::Acknowledge {})
    }

    pub fn changeover(&self, recipe: &str) -> Result<(), ClientError> {
        self.tell(&Request::Changeover {
            recipe: recipe.into(),
        })
    }

    fn tell(&self, request: &Request) -> Result<(), ClientError> {
        match self.ask(request)? {
            Reply::Done => Ok(()),
            other => Err(self.unexpected(other)),
        }
    }

    fn unexpected(&self, reply: Reply) -> ClientError {
        match reply {
            Reply::Error(why) => ClientError::Refused(why),
            _ => ClientError::Answer {
                path: self.path.clone(),
                why: "the answer to another request".into(),
            },
        }
    }

    fn ask(&self, request: &Request) -> Result<Reply, ClientError> {
        let failed = |cause| ClientError::Io {
            path: self.path.clone(),
            cause,
        };
        let not_understood = |why: String| ClientError::Answer {
            path: self.path.clone(),
            why,
        };
        let mut stream = connect(&self.path)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut line = serde_json::to_vec(request).map_err(|error| not_understood(error.to_string()))?;
        line.push(b'\n');
        stream.write_all(&line).map_err(failed)?;
        let mut reply = Vec::new();
        stream
            .take(REPLY_MAX as u64)
            .read_to_end(&mut reply)
            .map_err(failed)?;
        serde_json::from_slice(&reply).map_err(|error| not_understood(error.to_string()))
    }
}

fn connect(path: &Path) -> Result<UnixStream, ClientError> {
    let connected = short_path(path).and_then(|(short, _folder)| UnixStream::connect(short));
    connected.map_err(|cause| {
        let path = path.to_owned();
        match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                ClientError::NotRunning { path }
            }
            io::ErrorKind::PermissionDenied => ClientError::NoPermission { path },
            _ => ClientError::Io { path, cause },
        }
    })
}
