use super::*;
use crate::device::realtime::{Priority, raise_priority};
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const AT_ONCE: Duration = Duration::ZERO;
/// Longer than any of these tests may take: reached only when something never comes.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_full_queue_gives_the_value_back() {
    let (sender, receiver) = bounded(2);
    assert_eq!(sender.try_send(1), Ok(()));
    assert_eq!(sender.try_send(2), Ok(()));
    assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
    assert_eq!(receiver.recv(), Some(1));
    assert_eq!(sender.try_send(3), Ok(()));
    assert_eq!(receiver.recv(), Some(2));
    assert_eq!(receiver.recv(), Some(3));
    assert_eq!(receiver.recv_timeout(AT_ONCE), Err(RecvTimeoutError::Timeout));
}

#[test]
fn what_was_sent_before_the_last_sender_went_still_arrives() {
    let (sender, receiver) = bounded(2);
    let other = sender.clone();
    sender.send(1).expect("there is a receiver");
    drop(sender);
    other.send(2).expect("there is a receiver");
    drop(other);
    assert_eq!(receiver.recv_timeout(LONG), Ok(1));
    assert_eq!(receiver.recv_timeout(LONG), Ok(2));
    assert_eq!(receiver.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
    assert_eq!(receiver.recv(), None);
}

#[test]
fn without_a_receiver_nothing_is_taken_and_nothing_is_kept() {
    let (sender, receiver) = bounded(4);
    let value = Arc::new(());
    sender.send(Arc::clone(&value)).expect("there is a receiver");
    drop(receiver.clone());
    assert_eq!(Arc::strong_count(&value), 2, "one receiver is left to take it");
    drop(receiver);
    assert_eq!(Arc::strong_count(&value), 1);
    assert!(sender.send(Arc::clone(&value)).is_err());
    let refused = sender.try_send(Arc::clone(&value));
    assert!(matches!(refused, Err(TrySendError::Disconnected(_))));
}

#[test]
fn a_sleeping_receiver_is_woken_by_a_value_and_by_the_end() {
    let (sender, receiver) = bounded::<u8>(1);
    let sleeper = thread::spawn(move || (receiver.recv(), receiver.recv()));
    wait_for(|| sender.0.lock().hungry == 1);
    sender.send(7).expect("the sleeper lives");
    wait_for(|| {
        let state = sender.0.lock();
        state.values.is_empty() && state.hungry == 1
    });
    drop(sender);
    assert_eq!(sleeper.join().expect("no panic"), (Some(7), None));
}

#[test]
fn a_blocked_sender_is_woken_by_room_and_by_the_end() {
    let (sender, receiver) = bounded(1);
    sender.send(1).expect("there is a receiver");
    let queue = Arc::clone(&sender.0);
    let blocked = thread::spawn(move || (sender.send(2).is_ok(), sender.send(3).is_ok()));
    wait_for(|| queue.lock().blocked == 1);
    assert_eq!(receiver.recv(), Some(1));
    wait_for(|| {
        let state = queue.lock();
        state.values.len() == 1 && state.blocked == 1
    });
    drop(receiver);
    assert_eq!(blocked.join().expect("no panic"), (true, false));
}

#[test]
fn a_time_beyond_the_clock_is_for_ever() {
    let (sender, receiver) = bounded(1);
    sender.send(1).expect("there is a receiver");
    assert_eq!(receiver.recv_timeout(Duration::MAX), Ok(1));
    drop(sender);
    assert_eq!(
        receiver.recv_timeout(Duration::MAX),
        Err(RecvTimeoutError::Disconnected)
    );
}

/// Many senders and receivers through a queue that is nearly always full: nothing is lost,
/// nothing comes twice, and one receiver sees each sender's values in their order.
#[test]
fn many_threads_share_a_short_queue() {
    const SENDERS: u64 = 4;
    const EACH: u64 = 5_000;
    let (sender, receiver) = bounded(3);
    let send = |n: u64| {
        let sender = sender.clone();
        thread::spawn(move || {
            for value in 0..EACH {
                sender.send((n, value)).expect("receivers outlive senders");
            }
        })
    };
    let senders: Vec<_> = (0..SENDERS).map(send).collect();
    drop(sender);
    let receive = || {
        let receiver = receiver.clone();
        thread::spawn(move || {
            let mut next = [0; SENDERS as usize];
            let mut sum = 0;
            while let Some((n, value)) = receiver.recv() {
                let next = &mut next[n as usize];
                assert!(value >= *next, "{value} of sender {n} came after {next}");
                *next = value + 1;
                sum += value + 1;
            }
            sum
        })
    };
    let receivers = [receive(), receive()];
    for sender in senders {
        sender.join().expect("no panic");
    }
    let sum: u64 = receivers.map(|it| it.join().expect("no panic")).into_iter().sum();
    assert_eq!(sum, SENDERS * EACH * (EACH + 1) / 2);
}

/// Who finds the queue held sleeps: it must need no processor that the holder might want.
#[test]
fn nobody_waits_awake_for_a_holder() {
    let (sender, receiver) = bounded(1);
    let held = sender.0.lock();
    let waiter = thread::spawn(move || (receiver.recv(), computed()));
    thread::sleep(Duration::from_millis(300));
    drop(held);
    sender.send(1).expect("the waiter lives");
    let (value, computed) = waiter.join().expect("no panic");
    assert_eq!(value, Some(1));
    // Not how long it took but how much it computed: a third of what waiting awake costs is
    // far above what some system calls cost.
    assert!(
        computed < Duration::from_millis(100),
        "computed {computed:?} of 300 ms"
    );
}

/// A core with real-time priority and ordinary senders on one processor, which the core
/// interrupts wherever they are. A receiver that waits awake stands still for a second,
/// ten times in ten seconds: it is let go only when the kernel takes pity on the others.
#[test]
#[ignore = "needs the right to real-time priority: as root, make test-realtime"]
fn a_core_of_higher_priority_never_waits_for_those_it_interrupts() {
    on_one_processor();
    let (sender, receiver) = bounded(1_024);
    let over = Arc::new(AtomicBool::new(false));
    let flood = || {
        let (sender, over) = (sender.clone(), Arc::clone(&over));
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                // Refused or not: what counts is to be somewhere in the middle of it.
                let _ = sender.try_send([0_u8; 512]);
            }
        })
    };
    let senders = [flood(), flood(), flood(), flood()];
    let core = thread::spawn(move || {
        raise_priority(Priority::Core).expect("run as root");
        let mut worst = Duration::ZERO;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_micros(50));
            let asked = Instant::now();
            while receiver.recv_timeout(Duration::from_micros(2)).is_ok() {}
            worst = worst.max(asked.elapsed());
        }
        over.store(true, Ordering::Relaxed);
        worst
    });
    let worst = core.join().expect("no panic");
    for sender in senders {
        sender.join().expect("no panic");
    }
    assert!(
        worst < Duration::from_millis(500),
        "the core was held up for {worst:?}"
    );
}

/// This thread, and those that it starts from here on.
fn on_one_processor() {
    let mut one = rustix::thread::CpuSet::new();
    one.set(rustix::thread::sched_getcpu());
    rustix::thread::sched_setaffinity(None, &one).expect("a processor that is running may be chosen");
}

/// What the calling thread has computed so far.
fn computed() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn wait_for(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < LONG, "it never came");
        thread::sleep(Duration::from_millis(1));
    }
}

const MOST: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Op {
    Send,
    Receive,
    CloneSender,
    DropSender,
    CloneReceiver,
    DropReceiver,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Send),
        5 => Just(Op::Receive),
        1 => Just(Op::CloneSender),
        1 => Just(Op::DropSender),
        1 => Just(Op::CloneReceiver),
        1 => Just(Op::DropReceiver),
    ]
}

/// The queue beside what it must be like.
struct Twin {
    senders: Vec<Sender<Arc<u32>>>,
    receivers: Vec<Receiver<Arc<u32>>>,
    values: VecDeque<u32>,
    sent: Vec<Arc<u32>>,
    capacity: usize,
    queue: Arc<Queue<Arc<u32>>>,
}

impl Twin {
    fn new() -> Self {
        let (sender, receiver) = bounded(MOST);
        let capacity = sender.0.lock().values.capacity();
        Twin {
            capacity,
            queue: Arc::clone(&sender.0),
            senders: vec![sender],
            receivers: vec![receiver],
            values: VecDeque::new(),
            sent: Vec::new(),
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Send => self.send(),
            Op::Receive => self.receive(),
            Op::CloneSender => self.senders.extend(self.senders.last().cloned()),
            Op::DropSender => drop(self.senders.pop()),
            Op::CloneReceiver => self.receivers.extend(self.receivers.last().cloned()),
            Op::DropReceiver => {
                drop(self.receivers.pop());
                if self.receivers.is_empty() {
                    self.values.clear();
                }
            }
        }
    }

    fn send(&mut self) {
        let Some(sender) = self.senders.first() else {
            return;
        };
        let value = Arc::new(self.sent.len() as u32);
        let told = sender.try_send(Arc::clone(&value));
        if self.receivers.is_empty() {
            assert!(matches!(told, Err(TrySendError::Disconnected(_))));
        } else if self.values.len() == MOST {
            assert!(matches!(told, Err(TrySendError::Full(_))));
        } else {
            assert_eq!(told, Ok(()));
            self.values.push_back(*value);
        }
        self.sent.push(value);
    }

    fn receive(&mut self) {
        let Some(receiver) = self.receivers.first() else {
            return;
        };
        let expected = match self.values.pop_front() {
            Some(value) => Ok(value),
            None if self.senders.is_empty() => Err(RecvTimeoutError::Disconnected),
            None => Err(RecvTimeoutError::Timeout),
        };
        assert_eq!(receiver.recv_timeout(AT_ONCE).map(|value| *value), expected);
    }

    fn verify_invariants(&self) {
        let state = self.queue.lock();
        assert_eq!(
            (state.senders, state.receivers),
            (self.senders.len(), self.receivers.len())
        );
        assert_eq!((state.hungry, state.blocked), (0, 0));
        let held: Vec<u32> = state.values.iter().map(|value| **value).collect();
        assert!(held.iter().eq(&self.values), "{held:?}");
        // Never grown; given up with the last receiver.
        assert!([0, self.capacity].contains(&state.values.capacity()));
        // Held by the queue or by nobody but this list.
        for value in &self.sent {
            let copies = usize::from(self.values.contains(value));
            assert_eq!(Arc::strong_count(value), 1 + copies, "of {value}");
        }
    }
}

proptest! {
    #[test]
    fn any_sequence_behaves_as_a_list(ops in proptest::collection::vec(op(), 1..60)) {
        let mut twin = Twin::new();
        for op in ops {
            twin.apply(op);
            twin.verify_invariants();
        }
    }
}
