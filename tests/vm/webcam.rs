//! A USB camera (UVC) that is a program: the kernel's gadget driver on a device controller without hardware, whose
//! cable is a socket to a host controller without hardware (USB over IP, both ends on this machine).
//!
//! The station's side is the driver of real webcams, uvcvideo. Every request that reaches the camera is answered here
//! (USB Device Class Definition for Video Devices 1.5, chapter 4), so that what the camera was really told is known.
//! It delivers no pictures: the simulated device controller has no isochronous transfers.

use crate::vm::v4l::{READS, WRITES, ioctl, named, node, request};
use crate::vm::{modprobe, read, wait_until, write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

const GADGET: &str = "/sys/kernel/config/usb_gadget/webcam";
/// The device controller, as configfs and as its driver name it, and its end of the cable.
const UDC: &str = "usbip-vudc.0";
const UDC_DRIVER: &str = "usbip-vudc";
const UDC_SOCKET: &str = "/sys/devices/platform/usbip-vudc.0/usbip_sockfd";
/// The host controller, and a free port of it for high speed.
const HOST: &str = "/sys/devices/platform/vhci_hcd.0";
const PORT: u32 = 0;
/// `enum usb_device_speed` of linux/usb/ch9.h.
const SPEED_HIGH: u32 = 3;

/// A control of the camera: which unit of it, and which of its selectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    unit: u8,
    selector: u8,
}

const CAMERA: u8 = 1;
const PROCESSING: u8 = 2;
/// One bit per mode.
pub const EXPOSURE_MODE: Address = Address {
    unit: CAMERA,
    selector: 2,
};
/// In 100 µs.
pub const EXPOSURE_TIME: Address = Address {
    unit: CAMERA,
    selector: 4,
};
pub const GAIN: Address = Address {
    unit: PROCESSING,
    selector: 4,
};
pub const POWER_LINE: Address = Address {
    unit: PROCESSING,
    selector: 5,
};

pub const MANUAL: u32 = 1;
pub const AUTOMATIC: u32 = 2;

/// What a control can be and is.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    bytes: usize,
    min: u32,
    max: u32,
    /// The step; of a control of bits, those there are.
    step: u32,
    pub value: u32,
}

type Controls = BTreeMap<Address, Control>;

/// The camera, plugged in; dropped, it is pulled out.
pub struct Webcam {
    pub device: PathBuf,
    controls: Arc<Mutex<Controls>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Webcam {
    /// With an exposure that is automatic when it is plugged in, and has these modes.
    pub fn plug_in(modes: u32) -> Webcam {
        // What the kernel would load by itself on a box with a module loader.
        modprobe("usb_f_uvc", &[]);
        modprobe("usbip-vudc", &[]);
        modprobe("vhci-hcd", &[]);
        modprobe("uvcvideo", &[]);
        describe();
        let controls = Arc::new(Mutex::new(controls(modes)));
        let stop = Arc::new(AtomicBool::new(false));
        wait_until("the gadget's own device", || named(UDC_DRIVER).is_some());
        let own = named(UDC_DRIVER).expect("just seen");
        let firmware = Firmware {
            device: OpenOptions::new()
                .read(true)
                .write(true)
                .open(&own)
                .expect("the gadget's device opens"),
            controls: Arc::clone(&controls),
            asked: None,
            streaming: streaming(),
        };
        let stopped = Arc::clone(&stop);
        let run = move || firmware.run(&stopped);
        let thread = std::thread::Builder::new()
            .name("webcam".into())
            .spawn(run)
            .expect("a thread");
        connect();
        wait_until("the host's device", || host_node().is_some());
        Webcam {
            device: host_node().expect("just seen"),
            controls,
            stop,
            thread: Some(thread),
        }
    }

    /// What the camera itself holds.
    pub fn value(&self, of: Address) -> u32 {
        lock(&self.controls)[&of].value
    }
}

impl Drop for Webcam {
    fn drop(&mut self) {
        let _ = std::fs::write(Path::new(HOST).join("detach"), PORT.to_string());
        let _ = std::fs::write(UDC_SOCKET, "-1");
        // The gadget driver waits for whoever has its device open.
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::write(Path::new(GADGET).join("UDC"), "\n");
        let gone = ["configs/c.1/uvc.0"].map(|link| std::fs::remove_file(Path::new(GADGET).join(link)));
        let links = [
            "control/class/fs/h",
            "control/class/ss/h",
            "streaming/class/fs/h",
            "streaming/class/hs/h",
            "streaming/class/ss/h",
            "streaming/header/h/m",
        ];
        for link in links {
            let _ = std::fs::remove_file(Path::new(GADGET).join("functions/uvc.0").join(link));
        }
        let folders = [
            "functions/uvc.0/streaming/mjpeg/m/640",
            "functions/uvc.0/streaming/mjpeg/m",
            "functions/uvc.0/streaming/header/h",
            "functions/uvc.0/control/header/h",
            "functions/uvc.0",
            "configs/c.1/strings/0x409",
            "configs/c.1",
            "strings/0x409",
            "",
        ];
        for folder in folders {
            let _ = std::fs::remove_dir(Path::new(GADGET).join(folder));
        }
        if !std::thread::panicking() {
            gone.into_iter()
                .for_each(|result| result.expect("the gadget is taken apart"));
        }
    }
}

fn lock(controls: &Mutex<Controls>) -> MutexGuard<'_, Controls> {
    controls.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn controls(modes: u32) -> Controls {
    let control = |bytes, min, max, step, value| Control {
        bytes,
        min,
        max,
        step,
        value,
    };
    BTreeMap::from([
        (EXPOSURE_MODE, control(1, 1, 8, modes, AUTOMATIC)),
        (EXPOSURE_TIME, control(4, 2, 5_000, 1, 156)),
        (GAIN, control(2, 0, 100, 1, 64)),
        // Off, 50 Hz, 60 Hz.
        (POWER_LINE, control(1, 0, 2, 1, 2)),
    ])
}

/// What the camera says it is and has, written into configfs.
fn describe() {
    let gadget = Path::new(GADGET);
    let make = |folder: &str| {
        std::fs::create_dir_all(gadget.join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    };
    let link = |to: &str, from: &str| {
        let made = std::os::unix::fs::symlink(gadget.join(to), gadget.join(from));
        made.unwrap_or_else(|error| panic!("{from} → {to}: {error}"));
    };
    make("");
    write(&gadget.join("idVendor"), "0x1d6b");
    write(&gadget.join("idProduct"), "0x0102");
    make("strings/0x409");
    write(&gadget.join("strings/0x409/product"), "Webcam");
    make("configs/c.1/strings/0x409");
    make("functions/uvc.0");
    let uvc = |path: &str| format!("functions/uvc.0/{path}");
    make(&uvc("control/header/h"));
    for speed in ["fs", "ss"] {
        link(
            &uvc("control/header/h"),
            &uvc(&format!("control/class/{speed}/h")),
        );
    }
    // Bits of what there is: mode and time of exposure; gain and power-line frequency.
    let bits = |path: &str, bytes: &str| write(&gadget.join(uvc(path)), bytes);
    bits("control/terminal/camera/default/bmControls", "10\n0\n0");
    bits("control/processing/default/bmControls", "0\n6");
    make(&uvc("streaming/mjpeg/m/640"));
    for (name, value) in [
        ("wWidth", "640"),
        ("wHeight", "360"),
        ("dwFrameInterval", "1000000"),
        ("dwDefaultFrameInterval", "1000000"),
        ("dwMaxVideoFrameBufferSize", "460800"),
    ] {
        write(&gadget.join(uvc("streaming/mjpeg/m/640")).join(name), value);
    }
    make(&uvc("streaming/header/h"));
    link(&uvc("streaming/mjpeg/m"), &uvc("streaming/header/h/m"));
    for speed in ["fs", "hs", "ss"] {
        link(
            &uvc("streaming/header/h"),
            &uvc(&format!("streaming/class/{speed}/h")),
        );
    }
    link("functions/uvc.0", "configs/c.1/uvc.0");
    std::fs::write(gadget.join("UDC"), UDC).unwrap_or_else(|error| fail("the gadget is refused", &error));
}

/// With the kernel's own words.
fn fail(what: &str, error: &io::Error) -> ! {
    let log = std::process::Command::new("dmesg")
        .output()
        .expect("the kernel's log can be read");
    let log = String::from_utf8_lossy(&log.stdout);
    let last: Vec<_> = log.lines().rev().take(12).collect();
    panic!(
        "{what}: {error}; the kernel says, last first:\n{}",
        last.join("\n")
    )
}

/// The cable: each controller is handed one end of a pair of sockets.
fn connect() {
    let (device, host) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .expect("a pair of sockets");
    // It takes a cable when the firmware listens.
    wait_until("the gadget to be there", || {
        std::fs::write(UDC_SOCKET, device.as_raw_fd().to_string()).is_ok()
    });
    // Bus and number that the device would have on the other machine; this one gives its own.
    let device_id = 1 << 16 | 2;
    let words = format!("{PORT} {} {device_id} {SPEED_HIGH}", host.as_raw_fd());
    std::fs::write(Path::new(HOST).join("attach"), words)
        .unwrap_or_else(|error| fail("the host refuses the cable", &error));
}

/// The station's side. Its second device carries what is known about the pictures.
fn host_node() -> Option<PathBuf> {
    node(|path| {
        let driver = std::fs::read_link(path.join("device/driver")).unwrap_or_default();
        driver.ends_with("uvcvideo") && read(&path.join("index")) == "0"
    })
}

/// What answers the host's requests.
struct Firmware {
    device: File,
    controls: Arc<Mutex<Controls>>,
    /// The control whose value comes next.
    asked: Option<Asked>,
    streaming: [u8; 34],
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    Control(Address),
    Streaming,
}

/// Numbers of V4L2 events that the gadget driver sends (`linux/usb/g_uvc.h`).
const EVENTS: u32 = 0x0800_0000;
const STREAM_ON: u32 = EVENTS + 2;
const SETUP: u32 = EVENTS + 4;
const DATA: u32 = EVENTS + 5;

const SET_CUR: u8 = 0x01;

impl Firmware {
    fn run(mut self, stop: &AtomicBool) {
        // The driver shows itself to the host when somebody listens for its set-up requests.
        for event in [STREAM_ON, SETUP, DATA] {
            let mut subscription = [event, 0, 0, 0, 0, 0, 0, 0];
            ioctl(&self.device, request(WRITES, b'V', 90, 32), &mut subscription).expect("events can be had");
        }
        while !stop.load(Ordering::Relaxed) {
            let mut event = [0; 34];
            if !self.wait() || ioctl(&self.device, request(READS, b'V', 89, 136), &mut event).is_err() {
                continue;
            }
            let data: Vec<u8> = event[2..18].iter().flat_map(|word| word.to_le_bytes()).collect();
            match event[0] {
                SETUP => self.set_up(&data),
                DATA => self.take(&data[4..]),
                _ => self.stream(),
            }
        }
    }

    fn wait(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&self.device, PollFlags::PRI)];
        let turn = Timespec {
            tv_sec: 0,
            tv_nsec: 50_000_000,
        };
        poll(&mut fds, Some(&turn)).is_ok_and(|ready| ready > 0)
    }

    /// A request of eight bytes: type, request, value, index, length.
    fn set_up(&mut self, setup: &[u8]) {
        let (request, selector, unit) = (setup[1], setup[3], setup[5]);
        let length = usize::from(u16::from_le_bytes([setup[6], setup[7]]));
        let asked = if unit == 0 {
            Asked::Streaming
        } else {
            Asked::Control(Address { unit, selector })
        };
        if request == SET_CUR {
            self.asked = Some(asked);
            // The value follows.
            self.respond(Some(&vec![0; length]));
            return;
        }
        let answer = match asked {
            Asked::Streaming => Some(match request {
                GET_LEN => vec![34, 0],
                GET_INFO => vec![3],
                _ => self.streaming.to_vec(),
            }),
            Asked::Control(address) => lock(&self.controls)
                .get(&address)
                .and_then(|control| control.answer(request)),
        };
        self.respond(
            answer
                .map(|bytes| bytes[..bytes.len().min(length)].to_vec())
                .as_deref(),
        );
    }

    fn take(&mut self, bytes: &[u8]) {
        match self.asked.take() {
            Some(Asked::Control(address)) => {
                if let Some(control) = lock(&self.controls).get_mut(&address) {
                    let mut value = [0; 4];
                    value[..control.bytes].copy_from_slice(&bytes[..control.bytes]);
                    control.value = u32::from_le_bytes(value);
                }
            }
            // There is one format of one size; of what the host proposes, nothing else is open.
            Some(Asked::Streaming) | None => {}
        }
    }

    /// `struct uvc_request_data`; without an answer the request is refused.
    fn respond(&self, answer: Option<&[u8]>) {
        let mut words = [0; 16];
        words[0] = answer.map_or(-1, |bytes| bytes.len() as i32) as u32;
        for (at, byte) in answer.unwrap_or_default().iter().enumerate() {
            words[1 + at / 4] |= u32::from(*byte) << (8 * (at % 4));
        }
        // Fails when the host gave up meanwhile.
        let _ = ioctl(&self.device, request(WRITES, b'U', 1, 64), &mut words);
    }

    /// The host wants pictures: the driver answers it when buffers are there.
    fn stream(&self) {
        const OUTPUT: u32 = 2;
        const MMAP: u32 = 1;
        let _ = ioctl(
            &self.device,
            request(READS | WRITES, b'V', 8, 20),
            &mut [2, OUTPUT, MMAP, 0, 0],
        );
        let _ = ioctl(&self.device, request(WRITES, b'V', 18, 4), &mut [OUTPUT]);
    }
}

const GET_LEN: u8 = 0x85;
const GET_INFO: u8 = 0x86;

impl Control {
    fn answer(&self, request: u8) -> Option<Vec<u8>> {
        let value = match request {
            0x81 | 0x87 => self.value,
            0x82 => self.min,
            0x83 => self.max,
            0x84 => self.step,
            GET_LEN => return Some(vec![self.bytes as u8, 0]),
            // Can be read and set.
            GET_INFO => return Some(vec![3]),
            _ => return None,
        };
        Some(value.to_le_bytes()[..self.bytes].to_vec())
    }
}

/// The one way to stream: first format, first size, 10 pictures per second.
fn streaming() -> [u8; 34] {
    let mut bytes = [0; 34];
    bytes[..4].copy_from_slice(&[1, 0, 1, 1]);
    bytes[4..8].copy_from_slice(&1_000_000_u32.to_le_bytes());
    bytes[18..22].copy_from_slice(&460_800_u32.to_le_bytes());
    bytes[22..26].copy_from_slice(&1_024_u32.to_le_bytes());
    bytes[26..30].copy_from_slice(&48_000_000_u32.to_le_bytes());
    bytes
}
