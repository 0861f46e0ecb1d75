//! An I²C bus that is a program: a character device whose calls the kernel hands to this process (CUSE).
//!
//! The kernel's own simulated bus, `i2c-stub`, knows SMBus only, and a panel is written to in messages of any length.
//! Here every message that a program sends through `/dev/i2c-N` reaches a function of the test, which plays what hangs
//! on the bus. The words between kernel and process are those of FUSE (linux/fuse.h), in the byte order of the machine.
//!
//! ```text
//! elek ── ioctl(I2C_RDWR, address of a list) ──▶ kernel ── what was asked ─────────────────────▶ Served
//!                                                       ◀── "also give me those bytes of elek" ──
//!                                                       ── asked again, with the bytes ─────────▶
//! elek ◀─────────── result ────────────────────         ◀── result ──────────────────────────────
//! ```

use crate::vm::{modprobe, wait_until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// What a bus does with a message: bytes to an address; refused with the number of an error.
pub trait Messages: FnMut(u16, &[u8]) -> Result<(), i32> + Send + 'static {}

impl<F: FnMut(u16, &[u8]) -> Result<(), i32> + Send + 'static> Messages for F {}

/// A bus; dropped, it is gone, under whoever has it open.
pub struct Bus {
    device: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bus {
    /// Offers `/dev/i2c-NUMBER`.
    pub fn new(number: u32, messages: impl Messages) -> Bus {
        modprobe("cuse", &[]);
        wait_until("the driver", || Path::new("/dev/cuse").exists());
        let kernel = File::options()
            .read(true)
            .write(true)
            // What is asked can be taken back between hearing of it and reading it.
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/cuse")
            .expect("opens");
        let name = format!("i2c-{number}");
        let device = Path::new("/dev").join(&name);
        let mut served = Served {
            kernel,
            name,
            messages,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let run = move || {
            while !stopped.load(Ordering::Relaxed) {
                served.turn();
            }
        };
        let thread = std::thread::Builder::new().name("i2c".into()).spawn(run);
        let bus = Bus {
            device,
            stop,
            thread: Some(thread.expect("a thread can be started")),
        };
        wait_until("the bus", || bus.device.exists());
        bus
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if std::thread::panicking() {
            return;
        }
        assert!(matches!(ended, Some(Ok(()))), "what hangs on the bus has failed");
        wait_until("the bus to go", || !self.device.exists());
    }
}

/// How long a turn waits for the kernel, in ns: this late a bus goes.
const TURN: i64 = 50_000_000;
/// The kernel refuses to be read with less room than this.
const ROOM: usize = 16_384;

// What the kernel asks for, and begins and sizes of its words.
const OPEN: u32 = 14;
const RELEASE: u32 = 18;
const IOCTL: u32 = 39;
const CUSE_INIT: u32 = 4_096;
const HEAD: usize = 40;
const IOCTL_HEAD: usize = 32;
/// Version 7.16: the first in which places of bytes have 64 bits on every machine.
const VERSION: [u32; 2] = [7, 16];
/// The process may ask for any bytes of the program that called.
const UNRESTRICTED: u32 = 1;
/// An answer that is none: the kernel has to ask again.
const RETRY: u32 = 4;
/// Bytes of one read or write; I²C by messages uses neither.
const MOST: u32 = 4_096;

// Requests to I²C (linux/i2c-dev.h), and its limit to messages at once.
const I2C_SLAVE: u32 = 0x0703;
const I2C_RDWR: u32 = 0x0707;
const I2C_PEC: u32 = 0x0708;
const MESSAGES_MAX: usize = 42;
/// Of a message: it reads.
const READS: u16 = 1;

/// Bytes of the program that called: where, and how many.
type Place = (u64, u64);

enum Answer {
    Done(i32),
    /// Asked again, the kernel has to bring these along, one after the other.
    Bring(Vec<Place>),
    Failed(i32),
}

/// The process's end of a device.
struct Served<M> {
    kernel: File,
    name: String,
    messages: M,
}

impl<M: Messages> Served<M> {
    /// Waits a little for the kernel and answers it.
    fn turn(&mut self) {
        let mut fds = [PollFd::new(&self.kernel, PollFlags::IN)];
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: TURN,
        };
        if !poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0) {
            return;
        }
        let mut asked = [0; ROOM];
        match self.kernel.read(&mut asked) {
            Ok(length) => self.answer(&asked[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("the kernel asks nothing any more: {error}"),
        }
    }

    fn answer(&mut self, asked: &[u8]) {
        let (head, body) = asked.split_at(HEAD);
        let (what, unique) = (u32_at(head, 4), &head[8..16]);
        match what {
            CUSE_INIT => {
                let mut words = vec![VERSION[0], VERSION[1], 0, UNRESTRICTED, MOST, MOST];
                // The kernel chooses the device's numbers; the rest is for later versions.
                words.resize(18, 0);
                let name = format!("DEVNAME={}\0", self.name);
                self.reply(unique, 0, &[to_bytes(&words), name.into_bytes()].concat());
            }
            // A handle of ours, which nobody needs, and options.
            OPEN => self.reply(unique, 0, &[0; 16]),
            RELEASE => self.reply(unique, 0, &[]),
            IOCTL => match self.ioctl(body) {
                Answer::Done(result) => self.reply(unique, 0, &to_bytes(&[result as u32, 0, 0, 0])),
                Answer::Failed(error) => self.reply(unique, error, &[]),
                Answer::Bring(places) => {
                    let places = places.into_iter();
                    let places: Vec<u8> = places
                        .flat_map(|(begin, length)| [begin.to_ne_bytes(), length.to_ne_bytes()].concat())
                        .collect();
                    let count = (places.len() / 16) as u32;
                    self.reply(unique, 0, &[to_bytes(&[0, RETRY, count, 0]), places].concat());
                }
            },
            _ => self.reply(unique, libc::ENOSYS, &[]),
        }
    }

    fn reply(&mut self, unique: &[u8], error: i32, body: &[u8]) {
        let length = (16 + body.len()) as u32;
        let head = [&length.to_ne_bytes(), &(-error).to_ne_bytes(), unique].concat();
        // Refused when the program that asked has died meanwhile.
        let _ = self.kernel.write(&[&head, body].concat());
    }

    fn ioctl(&mut self, body: &[u8]) -> Answer {
        let (head, given) = body.split_at(IOCTL_HEAD);
        match u32_at(head, 12) {
            // Messages say themselves whom they are for.
            I2C_SLAVE | I2C_PEC => Answer::Done(0),
            I2C_RDWR => self.transfer(u64_at(head, 16), given),
            _ => Answer::Failed(libc::ENOTTY),
        }
    }

    /// `struct i2c_rdwr_ioctl_data` at this place of the program, which leads to messages, which lead to their bytes.
    fn transfer(&mut self, begin: u64, given: &[u8]) -> Answer {
        let mut places = vec![(begin, 16)];
        let Some((head, rest)) = given.split_at_checked(16) else {
            return Answer::Bring(places);
        };
        let count = u32_at(head, 8) as usize;
        if count > MESSAGES_MAX {
            return Answer::Failed(libc::EINVAL);
        }
        places.push((u64_at(head, 0), 16 * count as u64));
        let Some((list, mut rest)) = rest.split_at_checked(16 * count) else {
            return Answer::Bring(places);
        };
        // `struct i2c_msg`: address, flags, length, and where the bytes are.
        let (messages, _) = list.as_chunks::<16>();
        let length = |message: &[u8; 16]| u16_at(message, 4);
        if rest.len() < messages.iter().map(length).map(usize::from).sum() {
            let bytes = messages.iter();
            places.extend(bytes.map(|message| (u64_at(message, 8), u64::from(length(message)))));
            return Answer::Bring(places);
        }
        for message in messages {
            let bytes;
            (bytes, rest) = rest.split_at(usize::from(length(message)));
            if u16_at(message, 2) & READS != 0 {
                return Answer::Failed(libc::EOPNOTSUPP);
            }
            if let Err(error) = (self.messages)(u16_at(message, 0), bytes) {
                return Answer::Failed(error);
            }
        }
        Answer::Done(count as i32)
    }
}

fn to_bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The kernel hands over whole structures, so that a place that is missing is a mistake here.
fn at<const N: usize>(bytes: &[u8], place: usize) -> [u8; N] {
    bytes[place..place + N]
        .try_into()
        .expect("a slice of this length")
}

fn u16_at(bytes: &[u8], place: usize) -> u16 {
    u16::from_ne_bytes(at(bytes, place))
}

fn u32_at(bytes: &[u8], place: usize) -> u32 {
    u32::from_ne_bytes(at(bytes, place))
}

fn u64_at(bytes: &[u8], place: usize) -> u64 {
    u64::from_ne_bytes(at(bytes, place))
}
