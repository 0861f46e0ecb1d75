//! The output process as `elek run` sees it: orders go out, station events come in.
//!
//! ```text
//!           Ready: OutputsReady(true)                 respawn()
//!  Starting ─────────────────────────▶ Up    Lost ─────────────────▶ Starting
//!      │                                │      ▲
//!      └────────────────────────────────┴──────┘
//!        closed, safe, silent, or an order that cannot be sent: OutputsReady(false)
//! ```
//! The core loop owns the link and calls [`Link::heartbeat`] itself, every
//! [`HEARTBEAT_EVERY`], so that a core that hangs falls silent and the outputs go safe.
//! A thread turns reports into events; when it ends, the link is lost. When to
//! respawn is the runtime's decision.

use crate::config::OutputLine;
use crate::device::clock;
use crate::device::realtime::processors_of;
use crate::device::simchip::SimChip;
use crate::outputs::lateness::Lateness;
use crate::outputs::protocol::{LineInfo, MESSAGE_BYTES, Receiver, Report, Request, Sender};
use crate::outputs::table::{LINES_MAX, Order, SafeCause};
use crate::station::event::{Event, PulsePlan, PulseReport};
use crate::units::{Micros, OutputId, PulseId};
use anyhow::{Context, Result, bail};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix,
    SocketFlags, SocketType, connect, recv, send, sendmsg, shutdown, socket_with, socketpair,
};
use rustix::thread::{CpuSet, Pid};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the core loop has to call [`Link::heartbeat`]: four may be missed before
/// the outputs go safe.
pub const HEARTBEAT_EVERY: Micros = Micros::from_millis(20);

/// How long a new output process may take to open its lines.
const START_MAX: Duration = Duration::from_secs(5);

/// An output process that does not answer heartbeats for this long hangs itself: above any
/// hiccup of an idle real-time process, and time enough to kill it before more goes wrong.
const SILENCE_MAX: Duration = Duration::from_millis(300);

/// How long it may take to end after good-bye before it is killed.
const END_MAX: Micros = Micros::from_millis(500);

/// Takes the station events of the link; called on the link's own thread.
pub type Sink = Arc<dyn Fn(Event) + Send + Sync>;

/// Where the output process is.
#[derive(Clone, Debug)]
pub enum Peer {
    /// Start this program with `outputs --fd 0`.
    Child(PathBuf),
    /// It listens here, started by somebody else (systemd).
    Socket(PathBuf),
}

impl Peer {
    /// A child of the very program that is running, even if its file was replaced meanwhile.
    pub fn own_child() -> Peer {
        Peer::Child(PathBuf::from("/proc/self/exe"))
    }
}

/// What is known of the output process.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkStatus {
    pub ready: bool,
    /// Real-time priority was granted.
    pub realtime: bool,
    /// Memory is locked.
    pub locked: bool,
    /// Planned against actual, since the link was made.
    pub lateness: Lateness,
}

/// The connection to the output process. Dropping it makes the outputs safe.
pub struct Link {
    peer: Peer,
    lines: Vec<LineInfo>,
    chip: Option<OwnedFd>,
    sink: Sink,
    status: Arc<Mutex<LinkStatus>>,
    session: Option<Session>,
}

struct Session {
    socket: OwnedFd,
    sender: Sender,
    child: Option<Child>,
    lost: Arc<AtomicBool>,
    reader: JoinHandle<()>,
}

impl Link {
    /// Starts an output process and introduces the station's lines (`Config::outputs`) to it. Does not wait for
    /// it: `OutputsReady(true)` comes through `sink` when its lines are open. `chip` is needed
    /// when lines are on the simulated chip.
    pub fn spawn(outputs: &[OutputLine], chip: Option<&SimChip>, sink: Sink) -> Result<Link> {
        Link::to(Peer::own_child(), outputs, chip, sink)
    }

    /// The same with an output process of the caller's choice.
    pub fn to(peer: Peer, outputs: &[OutputLine], chip: Option<&SimChip>, sink: Sink) -> Result<Link> {
        if outputs.len() > LINES_MAX {
            bail!(
                "the station has {} output lines; {LINES_MAX} can be served",
                outputs.len()
            );
        }
        let info = |(index, line)| LineInfo::new(OutputId(index as u8), line);
        let lines: Option<Vec<LineInfo>> = outputs.iter().enumerate().map(info).collect();
        let chip = chip.map(|chip| chip.as_fd().try_clone_to_owned()).transpose();
        let mut link = Link {
            peer,
            lines: lines.context("the name of an output line or its chip is longer than 32 bytes")?,
            chip: chip.context("cannot pass the simulated chip on")?,
            sink,
            status: Arc::default(),
            session: None,
        };
        link.respawn()?;
        Ok(link)
    }

    pub fn fire(&mut self, plan: PulsePlan) {
        self.order(Order::Fire(plan));
    }

    pub fn cancel(&mut self, pulse: PulseId) {
        self.order(Order::Cancel(pulse));
    }

    pub fn set(&mut self, output: OutputId, active: bool) {
        self.order(Order::Set { output, active });
    }

    /// The core loop turns; to be called every [`HEARTBEAT_EVERY`] by that loop and nobody else.
    pub fn heartbeat(&mut self) {
        self.order(Order::Heartbeat);
    }

    /// Any order. It never waits; what cannot be sent loses the link, and the core hears of that.
    pub fn order(&mut self, order: Order) {
        if let Some(session) = &mut self.session {
            let packet = session.sender.request(Request::Order(order));
            if send(
                &session.socket,
                &packet,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) != Ok(MESSAGE_BYTES)
            {
                session.lose();
            }
        }
    }

    /// The output process is gone or does not obey: time for [`Link::respawn`].
    pub fn is_lost(&self) -> bool {
        self.session
            .as_ref()
            .is_none_or(|session| session.lost.load(Ordering::Acquire))
    }

    /// The output process, if it is a child.
    pub fn process_id(&self) -> Option<u32> {
        self.session.as_ref()?.child.as_ref().map(Child::id)
    }

    /// The processors that the output process may use.
    pub fn processors(&self) -> io::Result<CpuSet> {
        let session = self.session.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let process = match &session.child {
            Some(child) => Pid::from_child(child),
            // Whoever listens.
            None => socket_peercred(&session.socket)?.pid,
        };
        processors_of(Some(process))
    }

    pub fn status(&self) -> LinkStatus {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the old session, with its process, and begins a new one. Every line goes through
    /// its safe state, and the core has to set levels and plan pulses anew.
    pub fn respawn(&mut self) -> Result<()> {
        self.end(false);
        let lost = Arc::new(AtomicBool::new(false));
        let (socket, child) = self.connect()?;
        let sender = self
            .greet(&socket)
            .context("the output process does not listen")?;
        let reader = Reader {
            socket: socket.try_clone().context("cannot share a socket")?,
            sink: Arc::clone(&self.sink),
            lost: Arc::clone(&lost),
            status: Arc::clone(&self.status),
        };
        let reader = std::thread::Builder::new()
            .name("outputs-link".into())
            .spawn(move || reader.run());
        let reader = reader.context("cannot start a thread")?;
        self.session = Some(Session {
            socket,
            sender,
            child,
            lost,
            reader,
        });
        Ok(())
    }

    /// Says good-bye: every line goes safe, the output process ends. Waits for that, briefly.
    pub fn close(&mut self) {
        self.end(true);
    }

    fn end(&mut self, bye: bool) {
        if bye {
            self.order(Order::Bye);
        }
        if let Some(session) = self.session.take() {
            session.end(bye);
        }
    }

    fn connect(&self) -> Result<(OwnedFd, Option<Child>)> {
        match &self.peer {
            Peer::Child(program) => {
                let (ours, theirs) = socketpair(
                    AddressFamily::UNIX,
                    SocketType::SEQPACKET,
                    SocketFlags::CLOEXEC,
                    None,
                )
                .context("cannot make a socket pair")?;
                let child = Command::new(program)
                    .arg0("elek")
                    .args(["outputs", "--fd", "0"])
                    .stdin(Stdio::from(theirs))
                    .stdout(Stdio::null())
                    // The service manager speaks with its parent only.
                    .env_remove("NOTIFY_SOCKET")
                    // Ctrl-C is for us; it stays until we have finished what is planned.
                    .process_group(0)
                    .spawn()
                    .with_context(|| format!("cannot start the output process ({})", program.display()))?;
                Ok((ours, Some(child)))
            }
            Peer::Socket(path) => {
                let socket = socket_with(
                    AddressFamily::UNIX,
                    SocketType::SEQPACKET,
                    SocketFlags::CLOEXEC,
                    None,
                )
                .context("cannot make a socket")?;
                let address = SocketAddrUnix::new(path)?;
                connect(&socket, &address).with_context(|| {
                    format!(
                        "no output process listens on {}: is `elek outputs --socket` running?",
                        path.display()
                    )
                })?;
                Ok((socket, None))
            }
        }
    }

    fn greet(&self, socket: &OwnedFd) -> Result<Sender> {
        let mut sender = Sender::default();
        let hello = sender.request(Request::Hello {
            lines: self.lines.len() as u8,
        });
        let chip = self.chip.as_ref().map(AsFd::as_fd);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if let Some(chip) = &chip {
            ancillary.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(chip)));
        }
        sendmsg(
            socket,
            &[IoSlice::new(&hello)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
        for line in &self.lines {
            send(socket, &sender.request(Request::Line(*line)), SendFlags::NOSIGNAL)?;
        }
        Ok(sender)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl Session {
    /// The reader sees the end of the stream, tells the core, and then the link is lost.
    fn lose(&self) {
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    fn end(self, bye: bool) {
        let Session {
            socket,
            child,
            reader,
            ..
        } = self;
        if let Some(mut child) = child {
            let until = clock::now() + if bye { END_MAX } else { Micros::ZERO };
            while clock::now() < until && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(2));
            }
            // A process that is stuck still holds its lines; only its death frees them for
            // the next one, which makes them safe. Errors mean that it is dead already.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = shutdown(&socket, Shutdown::Both);
        // Waited for, so that its last event comes before the first of the next session; but not
        // for ever, because a full queue to the core may hold it while the core is here.
        let until = clock::now() + END_MAX;
        while !reader.is_finished() && clock::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The thread that turns reports into events.
struct Reader {
    socket: OwnedFd,
    sink: Sink,
    lost: Arc<AtomicBool>,
    status: Arc<Mutex<LinkStatus>>,
}

impl Reader {
    fn run(self) {
        let mut receiver = Receiver::default();
        let mut patience = START_MAX;
        let mut packet = [0; MESSAGE_BYTES + 1];
        let mut ended = None;
        let why = loop {
            let report = match self.receive(&mut packet, patience) {
                Ok(bytes) => receiver.report(&packet[..bytes]),
                Err(why) => break why,
            };
            patience = SILENCE_MAX;
            match report {
                Ok(Report::Safe { cause }) => {
                    ended = Some(cause);
                    break cause.words().to_string();
                }
                Ok(report) => self.pass_on(report),
                Err(nonsense) => break format!("it sent {nonsense}"),
            }
        };
        self.with_status(|status| status.ready = false);
        let _ = shutdown(&self.socket, Shutdown::Both);
        match ended {
            Some(SafeCause::Bye) => tracing::debug!("the output process has ended"),
            Some(_) => tracing::warn!("the output process made its lines safe and ended: {why}"),
            // Dead, its lines went back to their pulls; hanging, it holds them until its watchdog ends it.
            None => tracing::warn!("the output process is dead or hangs: {why}"),
        }
        (self.sink)(Event::OutputsReady(false));
        // Last of all: whoever sees it may respawn, and nothing of this session comes after.
        self.lost.store(true, Ordering::Release);
    }

    /// One byte more than a message, so that a longer one is noticed.
    fn receive(
        &self,
        packet: &mut [u8; MESSAGE_BYTES + 1],
        patience: Duration,
    ) -> std::result::Result<usize, String> {
        match clock::wait_readable(&self.socket, patience) {
            Ok(true) => {}
            Ok(false) => return Err(format!("it has not answered for {} ms", patience.as_millis())),
            Err(error) => return Err(error.to_string()),
        }
        match recv(&self.socket, &mut packet[..], RecvFlags::empty()) {
            Ok((0, _)) => Err("it closed the connection".into()),
            Ok((bytes, _)) => Ok(bytes),
            Err(error) => Err(error.to_string()),
        }
    }

    fn pass_on(&self, report: Report) {
        let pulse = |pulse, report| (self.sink)(Event::Pulse { pulse, report });
        match report {
            Report::Ready { realtime, locked } => {
                self.with_status(|status| {
                    *status = LinkStatus {
                        ready: true,
                        realtime,
                        locked,
                        ..*status
                    }
                });
                say_granted(realtime, locked);
                (self.sink)(Event::OutputsReady(true));
            }
            Report::On {
                pulse: id,
                planned,
                actual,
            } => {
                self.with_status(|status| status.lateness.note(planned, actual));
                pulse(id, PulseReport::On { at: actual });
            }
            Report::Off {
                pulse: id,
                planned,
                actual,
            } => {
                self.with_status(|status| status.lateness.note(planned, actual));
                pulse(id, PulseReport::Off { at: actual });
            }
            Report::Refused { pulse: id, refusal } => pulse(id, PulseReport::Refused(refusal)),
            Report::Safe { .. } | Report::Alive => {}
        }
    }

    fn with_status(&self, change: impl FnOnce(&mut LinkStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn say_granted(realtime: bool, locked: bool) {
    if realtime && locked {
        return tracing::info!("outputs run with real-time priority and locked memory");
    }
    let missing = match (realtime, locked) {
        (false, false) => "real-time priority and locked memory",
        (false, true) => "real-time priority",
        (true, _) => "locked memory",
    };
    tracing::warn!(
        "outputs run without {missing}: pulses may be late under load; \
         allow it with LimitRTPRIO= and LimitMEMLOCK= of the service, or run as root"
    );
}
