//! Threads that share the steps of a network.
//!
//! A team is its helpers and whoever leads it. The leader publishes a task, which is cut into shares; it and the helpers
//! take one share after the other until none is left, and it goes on when the last one is done. Nobody is told which
//! shares are its own: a helper that sleeps, or whose core is busy with something else, keeps nobody waiting, because
//! the others do the work meanwhile.
//!
//! Terms: *share*, a part of a task with all that it writes; *lane*, what belongs to one of the threads (scratch memory).
//!
//! ```text
//! word (64 bits):  number of the task (32) │ shares (16) │ those that were taken (16)
//!
//! leader:  task, word ─▶ wakes who sleeps ─▶ takes shares ─────────────▶ waits for `done` = shares
//! helper:  looks at word for a while, then sleeps ─▶ takes shares, `done` + 1 each ─▶ looks again
//! ```
//! Between two steps of a network helpers look without pause; between two pictures they sleep, and cost nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Most threads of a team; no network has steps for more.
pub const THREADS_MAX: usize = 32;

/// How long a thread looks before it sleeps. To sleep and to be woken takes some 50 µs, and the steps of a network
/// that one thread does alone take less than twice that. Measured with two threads, 80 steps of 100 µs with 8 µs alone
/// between them: 8.5 ms without looking, as by one thread; 6.5 with 20 µs, 4.9 with 50 and 5.1 with 100. With 60 µs alone
/// between them, 50 bring nothing and 100 do.
const LOOK: Duration = Duration::from_micros(100);

/// A share panicked; what it should have written is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a kernel panicked: this is a bug in elek")
    }
}

impl std::error::Error for Broken {}

/// Helpers, and the right to lead them.
pub struct Team {
    table: Arc<Table>,
    helpers: Vec<JoinHandle<()>>,
    lead: Mutex<()>,
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Team")
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

/// The team, until this is dropped.
pub struct Lead<'a> {
    team: &'a Team,
    _held: MutexGuard<'a, ()>,
}

/// On a cache line of its own: who writes to one does not take it from those that look at another.
#[repr(align(128))]
struct Apart<T>(T);

/// What leader and helpers meet at.
struct Table {
    word: Apart<AtomicU64>,
    done: Apart<AtomicU32>,
    task: AtomicPtr<Task>,
    broken: AtomicBool,
    /// No more tasks: the helpers end.
    closed: AtomicBool,
    /// By helper.
    asleep: Vec<Apart<AtomicBool>>,
    /// The leader sleeps until all is done.
    leader_asleep: AtomicBool,
    gate: Mutex<()>,
    all_done: Condvar,
}

/// One task, on the stack of the leader.
struct Task {
    /// Does the share of this number in the lane of this number.
    ///
    /// # Safety
    /// `data` is what the task was made with, and lives; no other thread has this lane or this share.
    run: unsafe fn(data: *const (), lane: usize, share: usize),
    data: *const (),
}

/// What [`Task::data`] points to.
struct Data<'a, L, S, F> {
    lanes: *mut L,
    shares: *mut S,
    work: &'a F,
}

/// # Safety
/// As [`Task::run`]; `data` is a `Data` of these types.
unsafe fn run<L, S, F: Fn(&mut L, &mut S)>(data: *const (), lane: usize, share: usize) {
    // SAFETY: the caller says that it is one, that it lives, and that nobody else has this lane or this share.
    let (work, lane, share) = unsafe {
        let data = &*data.cast::<Data<L, S, F>>();
        (
            data.work,
            &mut *data.lanes.add(lane),
            &mut *data.shares.add(share),
        )
    };
    work(lane, share);
}

impl Team {
    /// Starts `threads` − 1 helpers: the leader is one of the team. They have the priority that a thread of the caller's
    /// gets, which should be an ordinary one: they look for work before they sleep.
    pub fn new(threads: usize) -> std::io::Result<Team> {
        let helpers = threads.clamp(1, THREADS_MAX) - 1;
        let table = Arc::new(Table {
            word: Apart(AtomicU64::new(0)),
            done: Apart(AtomicU32::new(0)),
            task: AtomicPtr::new(std::ptr::null_mut()),
            broken: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            asleep: (0..helpers).map(|_| Apart(AtomicBool::new(false))).collect(),
            leader_asleep: AtomicBool::new(false),
            gate: Mutex::new(()),
            all_done: Condvar::new(),
        });
        let mut team = Team {
            table,
            helpers: Vec::with_capacity(helpers),
            lead: Mutex::new(()),
        };
        for helper in 0..helpers {
            let table = Arc::clone(&team.table);
            let thread = std::thread::Builder::new().name(format!("infer-help-{helper}"));
            // Should this one fail, dropping the team ends the others.
            team.helpers.push(thread.spawn(move || table.help(helper))?);
        }
        Ok(team)
    }

    /// Helpers and leader.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Its helpers: for whoever decides where threads run.
    pub fn helpers(&self) -> &[JoinHandle<()>] {
        &self.helpers
    }

    /// `None` while somebody else leads it: whoever asks works alone meanwhile.
    pub fn lead(&self) -> Option<Lead<'_>> {
        let held = match self.lead.try_lock() {
            Ok(held) => held,
            // A leader that panicked left no task behind: `share` waits for the end of each.
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Lead {
            team: self,
            _held: held,
        })
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.table.closed.store(true, Ordering::SeqCst);
        for helper in &self.helpers {
            helper.thread().unpark();
        }
        for helper in self.helpers.drain(..) {
            // It catches panics; there is nothing to say here about one that did not.
            let _ = helper.join();
        }
    }
}

impl Lead<'_> {
    /// Does `work` once with each of the shares, and returns when all are done. Which thread does which is not known;
    /// each has a lane for itself, the leader the first. Where a share panics, the others are done nevertheless.
    ///
    /// # Panics
    /// Where there are fewer lanes than threads, or 2¹⁶ shares.
    pub fn share<L, S, F>(&mut self, lanes: &mut [L], shares: &mut [S], work: F) -> Result<(), Broken>
    where
        L: Send,
        S: Send,
        F: Fn(&mut L, &mut S) + Sync,
    {
        let (table, count) = (&*self.team.table, shares.len());
        assert!(lanes.len() >= self.team.threads() && count <= usize::from(u16::MAX));
        let data = Data {
            lanes: lanes.as_mut_ptr(),
            shares: shares.as_mut_ptr(),
            work: &work,
        };
        let mut task = Task {
            run: run::<L, S, F>,
            data: (&raw const data).cast(),
        };
        table.task.store(&raw mut task, Ordering::Relaxed);
        table.done.0.store(0, Ordering::Relaxed);
        // The release that whoever takes a share acquires.
        table.publish(count);
        self.team.wake(count);
        table.take_shares(0);
        // Nothing above or below can unwind: from here on, all shares are done, and nobody has a pointer to `data`.
        table.wait_for(count as u32);
        match table.broken.swap(false, Ordering::Relaxed) {
            true => Err(Broken),
            false => Ok(()),
        }
    }
}

impl Team {
    /// Wakes as many helpers as find something to do beside the leader.
    fn wake(&self, shares: usize) {
        let asleep = self.table.asleep.iter().zip(&self.helpers);
        for (asleep, helper) in asleep.take(shares.saturating_sub(1)) {
            if asleep.0.load(Ordering::SeqCst) {
                helper.thread().unpark();
            }
        }
    }
}

impl Table {
    /// The next task, of this many shares. Only the leader calls this, when all shares of the last one are done.
    fn publish(&self, shares: usize) {
        let word = &self.word.0;
        let number = ((word.load(Ordering::Relaxed) >> 32) as u32).wrapping_add(1);
        word.store(
            (u64::from(number) << 32) | ((shares as u64) << 16),
            Ordering::SeqCst,
        );
    }

    /// The number of the next share, which nobody else gets.
    fn take(&self) -> Option<usize> {
        let mut word = self.word.0.load(Ordering::Acquire);
        loop {
            let (shares, taken) = ((word >> 16) & 0xffff, word & 0xffff);
            if taken >= shares {
                return None;
            }
            // Should the word be that of another task than a moment ago, then it is a share of that one.
            let next =
                self.word
                    .0
                    .compare_exchange_weak(word, word + 1, Ordering::Acquire, Ordering::Acquire);
            match next {
                Ok(_) => return Some(taken as usize),
                Err(now) => word = now,
            }
        }
    }

    /// As many shares as there are left.
    fn take_shares(&self, lane: usize) {
        while let Some(share) = self.take() {
            // SAFETY: the share was taken and is not yet `done`: until it is, the leader stays in `Lead::share`, and the
            // task, which was stored before the word that the share was taken from, is its.
            let task = unsafe { &*self.task.load(Ordering::Relaxed) };
            // SAFETY: `take` gives each share to one thread, and lane 0 is the leader's, the others the helpers', one
            // each; `Lead` is alone in having the team. `data` lives as long as the task does.
            let done = catch_unwind(AssertUnwindSafe(|| unsafe { (task.run)(task.data, lane, share) }));
            if let Err(panic) = done {
                // To drop it may panic again, here where that would leave the others behind.
                std::mem::forget(panic);
                self.broken.store(true, Ordering::Relaxed);
            }
            // The release of what the share wrote.
            self.done.0.fetch_add(1, Ordering::SeqCst);
            if lane > 0 && self.leader_asleep.load(Ordering::SeqCst) {
                // Held for a moment, so that the leader is not between looking and sleeping.
                drop(self.gate.lock().unwrap_or_else(PoisonError::into_inner));
                self.all_done.notify_one();
            }
        }
    }

    /// Until so many shares are done.
    fn wait_for(&self, shares: u32) {
        let all_done = || self.done.0.load(Ordering::SeqCst) == shares;
        if look(all_done) {
            return;
        }
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        self.leader_asleep.store(true, Ordering::SeqCst);
        while !all_done() {
            gate = self.all_done.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        self.leader_asleep.store(false, Ordering::SeqCst);
    }

    /// A helper's life.
    fn help(&self, helper: usize) {
        let mut seen = 0;
        while let Some(number) = self.next_task(helper, seen) {
            seen = number;
            self.take_shares(helper + 1);
        }
    }

    /// Waits until there is another task than the last one; `None` when there will be none.
    fn next_task(&self, helper: usize, last: u32) -> Option<u32> {
        let number = || (self.word.0.load(Ordering::SeqCst) >> 32) as u32;
        let closed = || self.closed.load(Ordering::SeqCst);
        let news = || number() != last || closed();
        if !look(news) {
            let asleep = &self.asleep[helper].0;
            // Said before the last look, so that a leader that comes after it sees who sleeps.
            asleep.store(true, Ordering::SeqCst);
            while !news() {
                std::thread::park();
            }
            asleep.store(false, Ordering::SeqCst);
        }
        (!closed()).then(number)
    }
}

/// Looks for a while whether something holds.
fn look(holds: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..32 {
            if holds() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() >= LOOK {
            return holds();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One share: what it is made of, how often it was done, and by which lanes.
    struct Share {
        value: u64,
        done: u32,
    }

    /// Does so many tasks of sizes that vary.
    fn tasks(team: &Team, tasks: u64) {
        let mut lead = team.lead().expect("nobody else leads it");
        let mut lanes = vec![0u64; team.threads()];
        let mut wanted = 0;
        for task in 0..tasks {
            let count = (task * 7 % 40) as usize;
            let share = |i| Share {
                value: task + i as u64,
                done: 0,
            };
            let mut shares: Vec<Share> = (0..count).map(share).collect();
            wanted += shares.iter().map(|share| share.value).sum::<u64>();
            let done = lead.share(&mut lanes, &mut shares, |lane, share| {
                share.done += 1;
                *lane += share.value;
            });
            assert_eq!(done, Ok(()));
            assert!(shares.iter().all(|share| share.done == 1), "task {task}");
            // Now and then long enough for everybody to sleep.
            if task % 300 == 299 {
                std::thread::sleep(LOOK * 5);
            }
        }
        assert_eq!(lanes.iter().sum::<u64>(), wanted);
    }

    #[test]
    fn every_share_is_done_once_whatever_the_number_of_threads() {
        for threads in [1, 2, 3, 5] {
            let team = Team::new(threads).expect("threads can be started");
            assert_eq!((team.threads(), team.helpers().len()), (threads, threads - 1));
            tasks(&team, 6_000 / threads as u64);
        }
    }

    #[test]
    fn all_threads_take_part() {
        let team = Team::new(3).expect("threads can be started");
        let mut lead = team.lead().expect("nobody else leads it");
        let mut lanes = [None; 3];
        let started = AtomicU32::new(0);
        // Nobody can take a second one before everybody has one.
        let done = lead.share(&mut lanes, &mut [(); 3], |lane, ()| {
            *lane = Some(std::thread::current().id());
            started.fetch_add(1, Ordering::SeqCst);
            while started.load(Ordering::SeqCst) < 3 {
                std::thread::yield_now();
            }
        });
        assert_eq!(done, Ok(()));
        assert_eq!(lanes[0], Some(std::thread::current().id()));
        let helpers = team.helpers().iter().map(|helper| Some(helper.thread().id()));
        assert!(helpers.eq(lanes[1..].iter().copied()), "{lanes:?}");
    }

    #[test]
    fn a_share_that_panics_is_an_error_and_nothing_else() {
        let team = Team::new(3).expect("threads can be started");
        for bad in 0..8 {
            let mut shares: Vec<(usize, bool)> = (0..8).map(|i| (i, false)).collect();
            let mut lead = team.lead().expect("the last one has ended");
            let done = lead.share(&mut [(); 3], &mut shares, |(), share| {
                assert!(share.0 != bad, "meant to");
                share.1 = true;
            });
            assert_eq!(done, Err(Broken));
            assert!(shares.iter().all(|&(i, done)| done == (i != bad)));
        }
        tasks(&team, 500);
    }

    #[test]
    fn who_asks_second_works_alone_and_a_leader_that_panicked_keeps_nothing() {
        let team = Team::new(2).expect("threads can be started");
        let lead = team.lead();
        assert!(lead.is_some() && team.lead().is_none());
        drop(lead);
        let leader = AssertUnwindSafe(|| {
            let _lead = team.lead();
            panic!("meant to");
        });
        assert!(catch_unwind(leader).is_err());
        tasks(&team, 100);
    }

    #[test]
    fn a_team_that_sleeps_ends() {
        let team = Team::new(4).expect("threads can be started");
        std::thread::sleep(LOOK * 20);
        let asleep = |team: &Team| team.table.asleep.iter().all(|a| a.0.load(Ordering::SeqCst));
        while !asleep(&team) {
            std::thread::yield_now();
        }
        let table = Arc::downgrade(&team.table);
        drop(team);
        assert!(table.upgrade().is_none(), "all threads have ended");
    }
}
