//! A camera that shows what a test draws: the driver vivid with its loop from output to capture.
//!
//! Frames are written to the output device at 1280 × 720 and come out of the capture device at a
//! quarter of that in each direction, at 14.75 frames per second: the slowest timing that the driver
//! takes, because the guest is slow.

use super::{modprobe, read, unload, wait_until, write};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const WIDTH: usize = 1280;
const HEIGHT: usize = 720;
/// How much larger a drawn picture is than a captured one.
pub const SCALE: usize = 4;
/// What the capture device offers, for the configuration.
pub const FPS: f64 = 14.75;

/// Controls of the capture device, by their numbers in the driver.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum Control {
    OsdTextMode = 0x00f0_f001,
    TimestampSource = 0x00f0_f018,
    WrapSequence = 0x00f0_f026,
    WrapTimestamp = 0x00f0_f027,
    PercentDropped = 0x00f0_f040,
    Disconnect = 0x00f0_f041,
    BufferError = 0x00f0_f042,
    RequestBuffersError = 0x00f0_f043,
    QueueError = 0x00f0_f044,
    StreamOnError = 0x00f0_f045,
    StreamingError = 0x00f0_f046,
    ConnectedTo = 0x00f0_f071,
}

/// The driver, loaded; dropped, it is unloaded.
pub struct Vivid {
    pub capture: PathBuf,
    pub output: PathBuf,
}

impl Vivid {
    pub fn new() -> Vivid {
        if Path::new("/sys/module/vivid").exists() {
            unload("vivid");
        }
        let hdmi = ["num_inputs=1", "input_types=3", "num_outputs=1", "output_types=1"];
        // Capture scales, output does not.
        let scale = ["ccs_cap_mode=4", "ccs_out_mode=0", "node_types=0x101"];
        modprobe("vivid", &[&hdmi[..], &scale[..]].concat());
        let (capture, output) = nodes();
        let vivid = Vivid { capture, output };
        vivid.connect();
        vivid
    }

    /// Joins output and capture; both begin unjoined after a load or a bind.
    fn connect(&self) {
        let (capture, output) = (open(&self.capture), open(&self.output));
        for device in [&output, &capture] {
            set_timings(device).expect("vivid takes the timings");
        }
        self.set(Control::OsdTextMode, 2);
        self.set(Control::TimestampSource, 1);
        self.set(Control::ConnectedTo, 2);
    }

    pub fn set(&self, control: Control, value: i32) {
        set_control(&open(&self.capture), control, value)
            .unwrap_or_else(|error| panic!("vivid refuses {control:?} = {value}: {error}"));
    }

    /// A button injects its fault once.
    pub fn press(&self, control: Control) {
        self.set(control, 1);
    }

    /// Takes the device from its driver, as unplugging does. Who has it open keeps a dead file.
    pub fn unbind(&self) {
        write(Path::new("/sys/bus/platform/drivers/vivid/unbind"), "vivid.0");
        wait_until("the camera to go", || !self.capture.exists());
    }

    pub fn bind(&mut self) {
        write(Path::new("/sys/bus/platform/drivers/vivid/bind"), "vivid.0");
        (self.capture, self.output) = nodes();
        self.connect();
    }
}

impl Drop for Vivid {
    fn drop(&mut self) {
        // Fails while somebody still has it open; the next test says so when it cannot load it.
        let _ = std::process::Command::new("modprobe")
            .args(["-r", "vivid"])
            .status();
    }
}

fn nodes() -> (PathBuf, PathBuf) {
    let find = |name: &str| {
        let entries = std::fs::read_dir("/sys/class/video4linux").ok()?;
        let mut nodes = entries.flatten().map(|entry| entry.path());
        let node = nodes.find(|path| path.join("name").exists() && read(&path.join("name")) == name)?;
        Some(Path::new("/dev").join(node.file_name()?)).filter(|device| device.exists())
    };
    let (capture, output) = ("vivid-000-vid-cap", "vivid-000-vid-out");
    wait_until("vivid's devices", || {
        find(capture).is_some() && find(output).is_some()
    });
    (
        find(capture).expect("just seen"),
        find(output).expect("just seen"),
    )
}

fn open(path: &Path) -> File {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()))
}

/// The number of a V4L2 request that reads and writes `bytes` (`_IOWR` of the kernel).
const fn request(number: u32, bytes: usize) -> u64 {
    (3 << 30 | (bytes as u64) << 16 | (b'V' as u64) << 8) | number as u64
}

fn ioctl(file: &File, request: u64, words: &mut [u32]) -> io::Result<()> {
    // SAFETY: `words` is as long as the number of the request says, and outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request, words.as_mut_ptr()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn set_control(file: &File, control: Control, value: i32) -> io::Result<()> {
    ioctl(file, request(28, 8), &mut [control as u32, value as u32])
}

/// `struct v4l2_dv_timings`, reckoned by the CVT formula for 15 frames per second.
fn set_timings(file: &File) -> io::Result<()> {
    const VSYNC_POSITIVE: u32 = 1;
    const CVT: u32 = 4;
    let mut words = [0; 33];
    let (front, sync, back) = ([32, 3], [128, 5], [160, 3]);
    words[1..5].copy_from_slice(&[WIDTH as u32, HEIGHT as u32, 0, VSYNC_POSITIVE]);
    words[5] = 17_250_000; // pixels per second
    words[7..13].copy_from_slice(&[front[0], sync[0], back[0], front[1], sync[1], back[1]]);
    words[16] = CVT;
    ioctl(file, request(87, 132), &mut words)
}

/// `struct v4l2_format` of the output: YUYV, progressive.
fn set_output_format(file: &File) -> io::Result<()> {
    const VIDEO_OUTPUT: u32 = 2;
    const PROGRESSIVE: u32 = 1;
    let mut words = [0; 52];
    words[0] = VIDEO_OUTPUT;
    let yuyv = u32::from_le_bytes(*b"YUYV");
    words[2..6].copy_from_slice(&[WIDTH as u32, HEIGHT as u32, yuyv, PROGRESSIVE]);
    ioctl(file, request(5, 208), &mut words)?;
    let given = (words[2], words[3], words[4]);
    assert_eq!(
        given,
        (WIDTH as u32, HEIGHT as u32, yuyv),
        "vivid's output has another format"
    );
    Ok(())
}

/// What is drawn: two pixels of YUYV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour(pub [u8; 4]);

pub const BELT: Colour = Colour([40, 128, 40, 128]);
pub const GREEN: Colour = Colour([145, 54, 145, 34]);
pub const RED: Colour = Colour([82, 90, 82, 240]);

/// A square in the captured picture, in its pixels; may lie partly outside along x.
#[derive(Clone, Copy, Debug)]
pub struct Square {
    pub left: i64,
    pub top: i64,
    pub side: i64,
    pub colour: Colour,
}

/// Writes pictures without end, because the loop shows noise when it has none.
pub struct Projector {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Projector {
    /// `scene` says what is to be seen now.
    pub fn start(output: &Path, scene: impl Fn() -> Vec<Square> + Send + 'static) -> Projector {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (output, stopped, count) = (output.to_owned(), Arc::clone(&stop), Arc::clone(&written));
        let run = move || {
            let mut picture = Vec::new();
            let mut device: Option<File> = None;
            while !stopped.load(Ordering::Relaxed) {
                draw(&mut picture, &scene());
                // The device goes away and comes back when the camera is unplugged.
                let shown = match &mut device {
                    Some(file) => file.write_all(&picture),
                    None => OpenOptions::new()
                        .write(true)
                        .read(true)
                        .open(&output)
                        .and_then(|file| {
                            set_output_format(&file)?;
                            device = Some(file);
                            Ok(())
                        }),
                };
                if shown.is_err() {
                    device = None;
                    std::thread::sleep(Duration::from_millis(20));
                } else {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let thread = std::thread::Builder::new().name("projector".into()).spawn(run);
        let projector = Projector {
            stop,
            written,
            thread: Some(thread.expect("a thread can be started")),
        };
        wait_until("the first pictures", || projector.written() > 5);
        projector
    }

    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

impl Drop for Projector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Paints the belt and the squares on it.
fn draw(picture: &mut Vec<u8>, squares: &[Square]) {
    picture.resize(WIDTH * HEIGHT * 2, 0);
    for pixels in picture.chunks_exact_mut(4) {
        pixels.copy_from_slice(&BELT.0);
    }
    let scale = SCALE as i64;
    for square in squares {
        let clip = |at: i64, most: usize| (at * scale).clamp(0, most as i64) as usize;
        // A pixel pair shares its colour, so columns are even.
        let (left, right) = (clip(square.left, WIDTH), clip(square.left + square.side, WIDTH));
        let (top, bottom) = (clip(square.top, HEIGHT), clip(square.top + square.side, HEIGHT));
        for y in top..bottom {
            let row = &mut picture[(y * WIDTH + left) * 2..(y * WIDTH + right) * 2];
            for pixels in row.chunks_exact_mut(4) {
                pixels.copy_from_slice(&square.colour.0);
            }
        }
    }
}
