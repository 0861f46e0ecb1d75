//! The station's side of the control socket.

use super::{REQUEST_MAX, RUN_FOLDER, Reply, Request, SOCKET, short_path, socket_path};
use crate::station::event::Command;
use crate::status::Status;
use crate::units::RecipeId;
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// From connect to the last byte of the reply.
const PATIENCE: Duration = Duration::from_secs(2);
/// Connections at a time; a ninth is told to come back.
const CLIENTS_MAX: usize = 8;
/// How often the accepting thread looks whether it should end.
const LOOK: rustix::time::Timespec = rustix::time::Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// Owner and group; everyone else has no business with the belt.
const MODE: u32 = 0o660;

/// What the socket is connected to.
pub struct Setup {
    /// The record folder, whose lock this process holds.
    pub record: PathBuf,
    /// Names of the recipes, in the order of their ids.
    pub recipes: Vec<String>,
    /// The last snapshot.
    pub status: Box<dyn Fn() -> Arc<Status> + Send + Sync>,
    /// Hands a command to the core without waiting; `false` when it has no room for it.
    pub command: Box<dyn Fn(Command) -> bool + Send + Sync>,
}

/// The open socket. Dropping it closes and removes it.
pub struct Control {
    path: PathBuf,
    link: Option<PathBuf>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Opens the socket and answers on a thread of its own.
    pub fn start(setup: Setup) -> io::Result<Control> {
        let path = socket_path(&setup.record);
        let listener = bind(&path)?;
        let link = link_from(Path::new(RUN_FOLDER), &path);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let setup = Arc::new(setup);
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || serve(&listener, &setup, &stopped))?;
        Ok(Control {
            path,
            link,
            stop,
            thread: Some(thread),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for path in self.link.iter().chain([&self.path]) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Binds in the record folder. A socket that is there already is a dead one, because
/// the lock on the record is ours.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let (short, _folder) = short_path(path)?;
    let listener = UnixListener::bind(short)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Makes the socket known in the service's run folder, if there is one and no other
/// living station is known there. Only a convenience, so failures are passed over.
fn link_from(folder: &Path, path: &Path) -> Option<PathBuf> {
    if !folder.is_dir() {
        return None;
    }
    let link = folder.join(SOCKET);
    if UnixStream::connect(&link).is_ok() {
        return None;
    }
    let _ = std::fs::remove_file(&link);
    let target = std::fs::canonicalize(path).ok()?;
    std::os::unix::fs::symlink(target, &link).ok().map(|()| link)
}

fn serve(listener: &UnixListener, setup: &Arc<Setup>, stop: &AtomicBool) {
    let clients = Arc::new(AtomicUsize::new(0));
    while !stop.load(Ordering::Relaxed) {
        let mut wait = [PollFd::new(listener, PollFlags::IN)];
        if !matches!(poll(&mut wait, Some(&LOOK)), Ok(1..)) {
            continue;
        }
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => {
                // Out of descriptors or the like: slow down instead of spinning.
                tracing::warn!("the control socket cannot accept: {error}");
                std::thread::sleep(Duration::from_millis(200));
                continue;
            }
        };
        let (setup, guard) = (Arc::clone(setup), Guard::new(&clients));
        let crowded = clients.load(Ordering::Relaxed) > CLIENTS_MAX;
        let answer = move || {
            let _guard = guard;
            let end = Instant::now() + PATIENCE;
            // Whatever goes wrong with a client is the client's affair.
            let _ = converse(stream, &setup, crowded, end);
        };
        // Without a thread the connection closes, and the client sees that.
        let _ = std::thread::Builder::new()
            .name("control-client".into())
            .stack_size(256 * 1024)
            .spawn(answer);
    }
}

/// Counts a connection for as long as it lives.
struct Guard(Arc<AtomicUsize>);

impl Guard {
    fn new(clients: &Arc<AtomicUsize>) -> Guard {
        clients.fetch_add(1, Ordering::Relaxed);
        Guard(Arc::clone(clients))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn converse(mut stream: UnixStream, setup: &Setup, crowded: bool, end: Instant) -> io::Result<()> {
    // An accepted socket does not inherit non-blocking on Linux; said here for certainty.
    stream.set_nonblocking(false)?;
    let reply = if crowded {
        Reply::Error("too many clients at once: try again".into())
    } else {
        match read_request(&mut stream, end)? {
            Ok(request) => answer(setup, request),
            Err(why) => Reply::Error(why),
        }
    };
    let mut line = serde_json::to_vec(&reply)?;
    line.push(b'\n');
    stream.set_write_timeout(Some(left(end)?))?;
    stream.write_all(&line)
}

/// Reads up to the end of the line; the inner error is for the client.
fn read_request(stream: &mut UnixStream, end: Instant) -> io::Result<Result<Request, String>> {
    let mut line = Vec::with_capacity(256);
    let mut chunk = [0; 512];
    loop {
        // The rest of the time each time: a client that sends a byte a second gains nothing.
        stream.set_read_timeout(Some(left(end)?))?;
        let n = stream.read(&mut chunk)?;
        line.extend_from_slice(&chunk[..n]);
        if let Some(length) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(length);
            break;
        }
        if n == 0 {
            break;
        }
        if line.len() > REQUEST_MAX {
            return Ok(Err(format!("a request is at most {REQUEST_MAX} bytes long")));
        }
    }
    Ok(serde_json::from_slice(&line).map_err(|error| format!("not a request: {error}")))
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(io::ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

fn answer(setup: &Setup, request: Request) -> Reply {
    let command = match request {
        Request::Status {} => {
            let status = (setup.status)();
            return Reply::Status(Box::new(Status::clone(&status)));
        }
        Request::Acknowledge {} => Command::Acknowledge,
        Request::Changeover { recipe } => match setup.recipes.iter().position(|name| *name == recipe) {
            Some(index) => Command::Changeover(RecipeId(index as u16)),
            None => {
                let known = setup.recipes.join("`, `");
                return Reply::Error(format!(
                    "there is no recipe `{recipe}`; this station has `{known}`"
                ));
            }
        },
    };
    if (setup.command)(command) {
        Reply::Done
    } else {
        Reply::Error("the station is too busy: try again".into())
    }
}
