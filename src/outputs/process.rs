//! `elek outputs`: opens the lines it is told, switches them at absolute times, and
//! makes them safe for every reason it can notice.
//!
//! One thread, one loop: sleep until an order comes or the table's next deadline, take
//! all orders that have arrived, do what is due, measure when it really happened. From
//! `Ready` to the end of the session nothing is allocated, read from disk or logged.

use crate::device::clock::{self, Alarm};
use crate::device::lines::OutputPort;
use crate::device::realtime;
use crate::outputs::protocol::{LineInfo, MESSAGE_BYTES, Packet, Receiver, Report, Request, Sender};
use crate::outputs::table::{EFFECTS_MAX, Effect, LINES_MAX, LineSpec, Order, SafeCause, Table};
use crate::service::{Beat, Beats, Service};
use crate::units::{Micros, OutputId};
use anyhow::{Context, Result, bail};
use arrayvec::ArrayVec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, Shutdown, SocketAddrUnix,
    SocketFlags, SocketType, accept_with, bind, connect, listen, recv, recvmsg, send, shutdown, socket_with,
};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a new session may take to introduce itself.
const GREETING_MAX: Duration = Duration::from_secs(2);

/// Orders taken before the table is looked at again, so that a flood of orders cannot keep
/// a line on: it is more than a sane core has under way, and takes well below a millisecond.
const ORDERS_MAX: usize = 64;

/// Lines are refreshed only while nothing is due for this long: a chip behind a slow bus takes some ms.
const QUIET_MIN: Micros = Micros::from_millis(5);

/// The loop turns at every heartbeat, and every 500 ms without a session.
const PATIENCE: Micros = Micros::from_secs(1);

/// Where sessions come from.
#[derive(Clone, Debug)]
pub enum Door<'a> {
    /// One session on a connected socket that the parent passed on; then the process ends.
    Inherited(i32),
    /// Sessions one after the other on a listening socket, until SIGTERM.
    Socket(&'a Path),
}

/// What the kernel granted.
#[derive(Clone, Copy, Debug)]
struct Granted {
    realtime: bool,
    locked: bool,
}

/// Runs until the door closes; says how the last session ended.
pub fn run(door: Door<'_>) -> Result<SafeCause> {
    let end = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&end)).context("cannot catch signals")?;
    }
    match door {
        Door::Inherited(fd) => {
            let socket = realtime::inherited(fd).with_context(|| format!("--fd {fd} is not an open file"))?;
            // A terminal sends Ctrl-C, and systemd SIGTERM, to parent and child alike. The parent
            // still has rejects to finish, so the child waits for its good-bye or its end.
            let granted = prepare()?;
            // `elek run` hears its silence, so nobody else has to look at it.
            let beat = Beats::default().register("outputs", PATIENCE);
            let mut process = Process::new(granted, Arc::default(), beat)?;
            Ok(process.session(socket, None))
        }
        Door::Socket(path) => {
            let listener = listen_on(path)?;
            let beats = Beats::default();
            let beat = beats.register("outputs", PATIENCE);
            // Before the priority is raised: this thread feeds the watchdog in its spare time.
            let service = Service::start(beats, None, || None).context("cannot start a thread")?;
            let granted = prepare()?;
            let mut process = Process::new(granted, end, beat)?;
            service.ready();
            let cause = process.sessions(&listener);
            // The name may already belong to a successor's socket; an error changes nothing.
            let _ = std::fs::remove_file(path);
            cause
        }
    }
}

fn prepare() -> Result<Granted> {
    rustix::thread::set_name(c"elek-outputs").context("cannot name the thread")?;
    let granted = |what: &str, result: std::io::Result<()>| match result {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!("outputs run without {what}: {error}");
            false
        }
    };
    Ok(Granted {
        locked: granted("locked memory", realtime::lock_memory()),
        realtime: granted(
            "real-time priority",
            realtime::raise_priority(realtime::Priority::Outputs),
        ),
    })
}

/// Listens on a path; a socket file that a dead predecessor left is replaced, a living one is not.
fn listen_on(path: &Path) -> Result<OwnedFd> {
    let what = || format!("cannot listen on {}", path.display());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let open = || socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).with_context(what);
    let address = SocketAddrUnix::new(path).with_context(what)?;
    let listener = open()?;
    if let Err(error) = bind(&listener, &address) {
        if error != Errno::ADDRINUSE {
            return Err(error).with_context(what);
        }
        match connect(open()?, &address) {
            Err(Errno::CONNREFUSED) => {
                std::fs::remove_file(path).with_context(what)?;
                bind(&listener, &address).with_context(what)?;
            }
            _ => bail!("{} is in use: is another `elek outputs` running?", path.display()),
        }
    }
    // Owner and group only: whoever can open this socket can fire the reject.
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o660)).with_context(what)?;
    listen(&listener, 4).with_context(what)?;
    Ok(listener)
}

/// The lines and all that is needed to serve them, allocated once.
struct Process {
    granted: Granted,
    alarm: Alarm,
    table: Table,
    /// Stays open, and its lines safe, from session to session.
    port: Option<OutputPort>,
    effects: Vec<Effect>,
    /// The line whose turn it is to be refreshed.
    refreshed: OutputId,
    end: Arc<AtomicBool>,
    beat: Beat,
}

/// One end of a conversation with `elek run`.
struct Session {
    socket: OwnedFd,
    receiver: Receiver,
    sender: Sender,
    /// The last message could not be sent: the other side is gone or does not read.
    broken: bool,
}

/// The lines of a session.
type Greeted = ArrayVec<LineInfo, LINES_MAX>;

/// What [`Session::receive`] found.
enum Received {
    Order(Order),
    Nothing,
    Safe(SafeCause),
}

impl Process {
    fn new(granted: Granted, end: Arc<AtomicBool>, beat: Beat) -> Result<Process> {
        Ok(Process {
            granted,
            alarm: Alarm::new().context("cannot create a timer")?,
            table: Table::new(),
            port: None,
            effects: Vec::with_capacity(EFFECTS_MAX),
            refreshed: OutputId(0),
            end,
            beat,
        })
    }

    /// Serves one session after the other.
    fn sessions(&mut self, listener: &OwnedFd) -> Result<SafeCause> {
        let mut last = SafeCause::Start;
        while !self.end.load(Ordering::Acquire) {
            self.beat.tick();
            // Looks at `end` now and then: a signal just before the poll would not interrupt it.
            if !clock::wait_readable(listener, Duration::from_millis(500)).context("cannot wait")? {
                continue;
            }
            match accept_with(listener, SocketFlags::CLOEXEC) {
                Ok(socket) => last = self.session(socket, Some(listener)),
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => return Err(error).context("cannot accept a session"),
            }
        }
        Ok(last)
    }

    /// From greeting to safe state.
    fn session(&mut self, socket: OwnedFd, listener: Option<&OwnedFd>) -> SafeCause {
        let mut session = Session {
            socket,
            receiver: Receiver::default(),
            sender: Sender::default(),
            broken: false,
        };
        let lines = match session.greet().and_then(|(lines, chip)| self.open(lines, chip)) {
            Ok(lines) => lines,
            Err(error) => {
                tracing::warn!("a session could not begin: {error:#}");
                return SafeCause::Nonsense;
            }
        };
        let specs: ArrayVec<LineSpec, LINES_MAX> = lines.iter().map(|line| line.spec).collect();
        self.effects.clear();
        self.table.open(clock::now(), &specs, &mut self.effects);
        self.carry_out(&mut session);
        session.report(Report::Ready {
            realtime: self.granted.realtime,
            locked: self.granted.locked,
        });
        let cause = loop {
            if let Some(cause) = self.table.safe() {
                break cause;
            }
            if let Err(error) = self.turn(&mut session, listener) {
                tracing::warn!("outputs cannot wait for orders: {error}");
                self.make_safe(&mut session, SafeCause::Ended);
            }
        };
        tracing::debug!("all outputs are safe: {}", cause.words());
        // So that the other side sees the end even if somebody else holds the socket too.
        let _ = shutdown(&session.socket, Shutdown::Both);
        cause
    }

    /// Opens the lines of a session, unless they are still open from the one before.
    fn open(&mut self, lines: Greeted, chip: Option<OwnedFd>) -> Result<Greeted> {
        // After a fault the lines are opened anew: their chip may have been away.
        let faulty = self.table.safe() == Some(SafeCause::LineFault);
        if !faulty && self.port.as_ref().is_some_and(|port| port.serves(&lines)) {
            return Ok(lines);
        }
        // Lines can be held once only, so the old ones are given back first.
        self.port = None;
        self.port = Some(OutputPort::open(&lines, chip)?);
        Ok(lines)
    }

    /// Sleeps until something is due or has come, and does it.
    fn turn(&mut self, session: &mut Session, listener: Option<&OwnedFd>) -> rustix::io::Result<()> {
        self.beat.tick();
        self.alarm.set(self.table.next_deadline())?;
        let mut fds: ArrayVec<PollFd<'_>, 3> = ArrayVec::new();
        fds.push(PollFd::new(&session.socket, PollFlags::IN));
        fds.push(PollFd::new(&self.alarm, PollFlags::IN));
        fds.extend(listener.map(|listener| PollFd::new(listener, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let knocks = fds.get(2).is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        self.take_orders(session);
        self.effects.clear();
        self.table.due(clock::now(), &mut self.effects);
        self.carry_out(session);
        self.refresh(session);
        if session.broken {
            self.make_safe(session, SafeCause::Closed);
        }
        if self.end.load(Ordering::Acquire) {
            self.make_safe(session, SafeCause::Ended);
        }
        if knocks && let Some(listener) = listener {
            // One session at a time: a second one is closed at once, which tells it so.
            drop(accept_with(listener, SocketFlags::CLOEXEC));
        }
        Ok(())
    }

    /// All orders that have arrived, before the silence of the other side is judged.
    fn take_orders(&mut self, session: &mut Session) {
        for _ in 0..ORDERS_MAX {
            match session.receive() {
                Received::Order(order) => {
                    self.effects.clear();
                    self.table.command(clock::now(), order, &mut self.effects);
                    self.carry_out(session);
                    if order == Order::Heartbeat {
                        session.report(Report::Alive);
                    }
                }
                Received::Nothing => return,
                Received::Safe(cause) => return self.make_safe(session, cause),
            }
        }
    }

    /// Gives one line the level that it should have already, each in its turn: a chip that was pulled out
    /// is noticed by this, not by the next part, and one that lost its state has it back.
    fn refresh(&mut self, session: &mut Session) {
        let due = self.table.next_deadline();
        if due.is_none_or(|at| at.since(clock::now()) < QUIET_MIN) {
            return;
        }
        let output = self.refreshed;
        self.refreshed = OutputId((output.0 + 1) % LINES_MAX as u8);
        let (Some(active), Some(port)) = (self.table.level(output), &mut self.port) else {
            // Beyond the last line.
            self.refreshed = OutputId(0);
            return;
        };
        if port.refresh(output, active).is_err() {
            self.make_safe(session, SafeCause::LineFault);
        }
    }

    fn make_safe(&mut self, session: &mut Session, cause: SafeCause) {
        self.effects.clear();
        self.table.make_safe(cause, &mut self.effects);
        self.carry_out(session);
    }

    /// Switches lines and reports, in the order of `effects`.
    fn carry_out(&mut self, session: &mut Session) {
        let Some(port) = &mut self.port else { return };
        let mut at = clock::now();
        let mut fault = false;
        for effect in &self.effects {
            let report = match *effect {
                Effect::Level { output, active } => {
                    match port.set(output, active) {
                        Ok(set) => at = set,
                        Err(_) => fault = true,
                    }
                    continue;
                }
                Effect::Started { pulse, planned } => Report::On {
                    pulse,
                    planned,
                    actual: at,
                },
                Effect::Ended { pulse, planned } => Report::Off {
                    pulse,
                    planned,
                    actual: at,
                },
                Effect::Refused { pulse, refusal } => Report::Refused { pulse, refusal },
                Effect::Safe { cause } => Report::Safe { cause },
            };
            session.report(report);
        }
        if fault && self.table.safe().is_none() {
            // Every line is tried once more on the way into the safe state.
            self.make_safe(session, SafeCause::LineFault);
        }
    }
}

impl Session {
    /// Hello with the simulated chip's file, then the lines.
    fn greet(&mut self) -> Result<(Greeted, Option<OwnedFd>)> {
        let (packet, chip) = self.first_packet()?;
        let Request::Hello { lines: count } = self.receiver.request(&packet)? else {
            bail!("the first message is not a greeting");
        };
        if usize::from(count) > LINES_MAX {
            bail!("{count} lines are more than the {LINES_MAX} that can be served");
        }
        let mut lines = Greeted::new();
        for index in 0..count {
            match self.receiver.request(&self.packet()?)? {
                Request::Line(line) if line.output == OutputId(index) => lines.push(line),
                _ => bail!("line {index} is missing in the greeting"),
            }
        }
        Ok((lines, chip))
    }

    fn first_packet(&self) -> Result<(Packet, Option<OwnedFd>)> {
        self.wait()?;
        let mut packet = [0; MESSAGE_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut packet)];
        let received = recvmsg(&self.socket, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        if received.bytes != MESSAGE_BYTES {
            bail!(
                "the greeting is {} bytes instead of {MESSAGE_BYTES}",
                received.bytes
            );
        }
        let chip = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        Ok((packet, chip))
    }

    fn packet(&self) -> Result<Packet> {
        self.wait()?;
        let mut packet = [0; MESSAGE_BYTES];
        let (bytes, _) = recv(&self.socket, &mut packet, RecvFlags::empty())?;
        if bytes != MESSAGE_BYTES {
            bail!("a packet of {bytes} bytes instead of {MESSAGE_BYTES}");
        }
        Ok(packet)
    }

    fn wait(&self) -> Result<()> {
        let until = clock::now() + Micros::new(GREETING_MAX.as_micros() as i64);
        // A signal ends the wait early; the greeting is waited for until its time is up.
        while !clock::wait_readable(&self.socket, until.since(clock::now()).to_std())? {
            if clock::now() >= until {
                bail!("no greeting within {} s", GREETING_MAX.as_secs());
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Received {
        // One byte more than a message, so that a longer one is noticed.
        let mut packet = [0; MESSAGE_BYTES + 1];
        let bytes = match recv(self.socket.as_fd(), &mut packet, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Received::Safe(SafeCause::Closed),
            Ok((bytes, _)) => bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Received::Nothing,
            Err(_) => return Received::Safe(SafeCause::Closed),
        };
        match self.receiver.request(&packet[..bytes]) {
            Ok(Request::Order(order)) => Received::Order(order),
            Ok(Request::Hello { .. } | Request::Line(_)) | Err(_) => Received::Safe(SafeCause::Nonsense),
        }
    }

    /// Never waits: a peer that does not read its reports is not there.
    fn report(&mut self, report: Report) {
        let packet = self.sender.report(report);
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        self.broken |= send(&self.socket, &packet, flags) != Ok(MESSAGE_BYTES);
    }
}
