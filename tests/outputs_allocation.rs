//! From `Ready` to the end of a session the output process allocates nothing.
//!
//! The real main loop runs on a thread of this process, under an allocator that counts
//! what that thread asks for.

use elek::config::OutputLine;
use elek::device::clock;
use elek::device::simchip::SimChip;
use elek::outputs::process::{Door, run};
use elek::outputs::protocol::{LineInfo, MESSAGE_BYTES, Receiver, Report, Request, Sender};
use elek::outputs::table::{Order, PULSES_MAX, SafeCause};
use elek::station::event::PulsePlan;
use elek::units::{Micros, OutputId, PulseId};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    recv, send, sendmsg, socketpair,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

// SAFETY: everything is passed on to the system's allocator unchanged; a const-initialized
// thread-local without destructor neither allocates nor fails while a thread ends.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTED.get() {
            COUNT.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `System.alloc` with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Run {
    socket: OwnedFd,
    sender: Sender,
    receiver: Receiver,
}

impl Run {
    fn send(&mut self, request: Request) {
        let packet = self.sender.request(request);
        assert_eq!(
            send(&self.socket, &packet, SendFlags::NOSIGNAL),
            Ok(MESSAGE_BYTES)
        );
    }

    fn report(&mut self) -> Report {
        assert!(
            clock::wait_readable(&self.socket, Duration::from_secs(60)).unwrap(),
            "no report"
        );
        let mut packet = [0; MESSAGE_BYTES];
        let (bytes, _) = recv(&self.socket, &mut packet[..], RecvFlags::empty()).unwrap();
        self.receiver.report(&packet[..bytes]).unwrap()
    }

    fn greet(&mut self, chip: &SimChip) {
        let lines =
            [(false, Some(Micros::from_millis(5))), (true, None)].map(|(safe_on, max_on)| OutputLine {
                chip: "sim".into(),
                name: "LINE".into(),
                active_low: false,
                safe_on,
                max_on,
            });
        let hello = self.sender.request(Request::Hello { lines: 2 });
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [chip.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(
            &self.socket,
            &[IoSlice::new(&hello)],
            &mut ancillary,
            SendFlags::empty(),
        )
        .unwrap();
        for (index, line) in lines.iter().enumerate() {
            self.send(Request::Line(LineInfo::new(OutputId(index as u8), line).unwrap()));
        }
        assert!(matches!(self.report(), Report::Ready { .. }));
    }
}

#[test]
fn nothing_is_allocated_in_a_session() {
    let chip = SimChip::create().unwrap();
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let outputs = std::thread::spawn(move || {
        COUNTED.set(true);
        let cause = run(Door::Inherited(theirs.into_raw_fd()));
        COUNTED.set(false);
        cause
    });
    let mut run = Run {
        socket: ours,
        sender: Sender::default(),
        receiver: Receiver::default(),
    };
    run.greet(&chip);
    let before = COUNT.load(Ordering::Relaxed);
    assert!(before > 0, "the counter does not count");
    // More pulses than fit, some too late, some cut at the longest on-time, held levels.
    let now = clock::now();
    for number in 0..PULSES_MAX as i64 + 10 {
        let on_at = now + Micros::from_millis(number - 5);
        let off_at = on_at + Micros::from_millis(1 + number % 9);
        let plan = PulsePlan {
            pulse: PulseId(number as u64),
            output: OutputId(0),
            on_at,
            off_at,
        };
        run.send(Request::Order(Order::Fire(plan)));
        run.send(Request::Order(Order::Set {
            output: OutputId(1),
            active: number % 2 == 0,
        }));
        run.send(Request::Order(Order::Heartbeat));
    }
    // Until every pulse has met its end, or this machine has let the heart stop.
    let mut ended = 0;
    let mut cause = SafeCause::Bye;
    while ended < PULSES_MAX + 10 {
        match run.report() {
            Report::Off { .. } | Report::Refused { .. } => ended += 1,
            Report::Safe { cause: other } => {
                cause = other;
                break;
            }
            Report::On { .. } | Report::Alive | Report::Ready { .. } => {}
        }
        let _ = send(
            &run.socket,
            &run.sender.request(Request::Order(Order::Heartbeat)),
            SendFlags::NOSIGNAL,
        );
    }
    assert_eq!(
        COUNT.load(Ordering::Relaxed) - before,
        0,
        "allocations in a session"
    );
    if cause == SafeCause::Bye {
        run.send(Request::Order(Order::Bye));
    }
    assert_eq!(outputs.join().unwrap().unwrap(), cause);
}
