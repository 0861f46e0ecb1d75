//! A camera that shows what a test draws: the driver vivid with its loop from output to capture.
//!
//! Frames are written to the output device at 1280 × 720 and come out of the capture device at a
//! quarter of that in each direction, 24 times per second; slowly, because the guest is slow.

use super::v4l::{self, ioctl};
use super::{modprobe, unload, wait_until, write};
use memmap2::{MmapMut, MmapOptions};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const WIDTH: usize = 1280;
const HEIGHT: usize = 720;
/// How much larger a drawn picture is than a captured one.
pub const SCALE: usize = 4;

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
        for (device, timings) in [(&output, OUTPUT), (&capture, CAPTURE)] {
            set_timings(device, &timings).expect("vivid takes the timings");
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
    let (capture, output) = ("vivid-000-vid-cap", "vivid-000-vid-out");
    wait_until("vivid's devices", || {
        v4l::named(capture).is_some() && v4l::named(output).is_some()
    });
    (
        v4l::named(capture).expect("just seen"),
        v4l::named(output).expect("just seen"),
    )
}

fn open(path: &Path) -> File {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()))
}

/// The number of a V4L2 request that reads and writes `bytes`.
const fn request(number: u32, bytes: u32) -> u64 {
    v4l::request(v4l::READS | v4l::WRITES, b'V', number, bytes)
}

fn set_control(file: &File, control: Control, value: i32) -> io::Result<()> {
    ioctl(file, request(28, 8), &mut [control as u32, value as u32])
}

/// What of a video signal's timing differs here: pixels per second, front porch, sync and back porch
/// along a row and along a picture, polarities, and the standard they are from.
struct Timings {
    pixels_per_s: u32,
    row: [u32; 3],
    picture: [u32; 3],
    polarities: u32,
    standard: u32,
}

/// The capture device takes timings from its list only; of 1280 × 720 this is the slowest.
const CAPTURE: Timings = Timings {
    pixels_per_s: 59_400_000,
    row: [1760, 40, 220],
    picture: [5, 5, 20],
    polarities: 3,
    standard: 1,
};
/// The output takes whatever the CVT formula gives; of 15 frames per second it makes 14.75.
const OUTPUT: Timings = Timings {
    pixels_per_s: 17_250_000,
    row: [32, 128, 160],
    picture: [3, 5, 3],
    polarities: 1,
    standard: 4,
};

/// Writes a `struct v4l2_dv_timings`.
fn set_timings(file: &File, timings: &Timings) -> io::Result<()> {
    let mut words = [0; 33];
    words[1..5].copy_from_slice(&[WIDTH as u32, HEIGHT as u32, 0, timings.polarities]);
    words[5] = timings.pixels_per_s;
    words[7..10].copy_from_slice(&timings.row[..3]);
    words[10..13].copy_from_slice(&timings.picture[..3]);
    words[16] = timings.standard;
    ioctl(file, request(87, 132), &mut words)
}

/// `struct v4l2_format` of the output: YUYV, progressive.
fn set_output_format(file: &File) -> io::Result<()> {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Square {
    pub left: i64,
    pub top: i64,
    pub side: i64,
    pub colour: Colour,
}

/// Shows pictures without end, because the loop shows noise when it has none.
pub struct Projector {
    stop: Arc<AtomicBool>,
    shown: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Projector {
    /// `scene` says what is to be seen now.
    pub fn start(output: &Path, scene: impl Fn() -> Vec<Square> + Send + 'static) -> Projector {
        let (stop, shown) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (output, stopped, count) = (output.to_owned(), Arc::clone(&stop), Arc::clone(&shown));
        let run = move || {
            while !stopped.load(Ordering::Relaxed) {
                // The device goes away and comes back when the camera is unplugged.
                let Ok(mut screen) = Screen::open(&output) else {
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                };
                while !stopped.load(Ordering::Relaxed) && screen.show(&scene()).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let thread = std::thread::Builder::new().name("projector".into()).spawn(run);
        let projector = Projector {
            stop,
            shown,
            thread: Some(thread.expect("a thread can be started")),
        };
        wait_until("the first pictures", || {
            projector.shown.load(Ordering::Relaxed) > 5
        });
        projector
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

/// The output device with its mapped buffers. Only what changes in a picture is drawn: the guest is slow.
struct Screen {
    file: File,
    buffers: Vec<(MmapMut, Vec<Square>)>,
    /// Buffers from here on were never shown.
    fresh: usize,
}

/// One is shown, one waits, one is drawn.
const BUFFERS: u32 = 3;
const VIDEO_OUTPUT: u32 = 2;
const MMAP: u32 = 1;
const PROGRESSIVE: u32 = 1;

/// `struct v4l2_buffer`
fn buffer(index: usize) -> [u32; 22] {
    let mut words = [0; 22];
    words[0] = index as u32;
    words[1] = VIDEO_OUTPUT;
    words[2] = (WIDTH * HEIGHT * 2) as u32;
    words[4] = PROGRESSIVE;
    words[15] = MMAP;
    words
}

impl Screen {
    fn open(path: &Path) -> io::Result<Screen> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        set_output_format(&file)?;
        ioctl(&file, request(8, 20), &mut [BUFFERS, VIDEO_OUTPUT, MMAP, 0, 0])?;
        let mut buffers = Vec::new();
        for index in 0..BUFFERS as usize {
            let mut words = buffer(index);
            ioctl(&file, request(9, 88), &mut words)?;
            let mut options = MmapOptions::new();
            options.offset(u64::from(words[16])).len(words[18] as usize);
            // SAFETY: the driver's memory; nobody but this test and the driver uses it.
            let mut map = unsafe { options.map_mut(&file)? };
            fill(&mut map, 0..WIDTH, 0..HEIGHT, BELT);
            buffers.push((map, Vec::new()));
        }
        Ok(Screen {
            file,
            buffers,
            fresh: 0,
        })
    }

    /// Draws the next picture and hands it over; waits until there is room for one.
    fn show(&mut self, scene: &[Square]) -> io::Result<()> {
        let index = if self.fresh < self.buffers.len() {
            self.fresh += 1;
            self.fresh - 1
        } else {
            let mut words = buffer(0);
            ioctl(&self.file, request(17, 88), &mut words)?;
            words[0] as usize
        };
        let (map, before) = &mut self.buffers[index];
        if before != scene {
            for square in &*before {
                square.draw(map, BELT);
            }
            for square in scene {
                square.draw(map, square.colour);
            }
            *before = scene.to_vec();
        }
        ioctl(&self.file, request(15, 88), &mut buffer(index))?;
        if index + 1 == self.buffers.len() && self.fresh == self.buffers.len() {
            // Streams already, except the first time; then this changes nothing.
            ioctl(&self.file, stream_on(), &mut [VIDEO_OUTPUT])?;
        }
        Ok(())
    }
}

/// `VIDIOC_STREAMON`, which only writes.
const fn stream_on() -> u64 {
    v4l::request(v4l::WRITES, b'V', 18, 4)
}

impl Square {
    fn draw(&self, picture: &mut [u8], colour: Colour) {
        let clip = |at: i64, most: usize| (at * SCALE as i64).clamp(0, most as i64) as usize;
        let across = clip(self.left, WIDTH)..clip(self.left + self.side, WIDTH);
        let down = clip(self.top, HEIGHT)..clip(self.top + self.side, HEIGHT);
        fill(picture, across, down, colour);
    }
}

/// Two pixels share their colour, so columns are even.
fn fill(picture: &mut [u8], across: Range<usize>, down: Range<usize>, colour: Colour) {
    let row: Vec<u8> = colour.0.iter().copied().cycle().take(across.len() * 2).collect();
    for y in down {
        let at = (y * WIDTH + across.start) * 2;
        picture[at..at + row.len()].copy_from_slice(&row);
    }
}
