//! A display whose memory can be read back, and the pictures on it.

use elek::device::framebuffer;
use elek::display::Canvas;
use std::os::fd::AsRawFd;
use std::path::Path;

pub const DEVICE: &str = "/dev/fb0";

/// vfb, whose red lies below its blue; on the arm64 board, whose kernel comes without it, the framebuffer
/// behind a DRM driver. It stays loaded, because the kernel's console holds it.
pub struct Vfb;

struct Driver {
    module: &'static str,
    options: &'static [&'static str],
    folder: &'static str,
    /// How the names of what it drives begin: in its folder they stand beside `bind` and `unbind`.
    devices: &'static str,
}

pub const BOARD: bool = cfg!(target_arch = "aarch64");

const DRIVER: Driver = if BOARD {
    Driver {
        module: "bochs",
        options: &[],
        folder: "/sys/bus/pci/drivers/bochs-drm",
        devices: "0000:",
    }
} else {
    Driver {
        module: "vfb",
        options: &["vfb_enable=1", "videomemorysize=16777216"],
        folder: "/sys/bus/platform/drivers/vfb",
        devices: "vfb.",
    }
};

/// Width, height, bits a pixel; how far a colour may be off in this mode.
pub const MODES: &[(u32, u32, u32, u8)] = if BOARD {
    &[(480, 320, 32, 0)]
} else {
    &[
        (240, 240, 32, 0),
        (320, 240, 16, 8),
        (480, 320, 24, 0),
        (801, 481, 32, 0),
        (1_280, 800, 32, 0),
    ]
};

impl Vfb {
    pub fn load() -> Vfb {
        super::modprobe(DRIVER.module, DRIVER.options);
        super::wait_until("a framebuffer", || Path::new(DEVICE).exists());
        Vfb
    }

    /// Takes the display from under whoever draws on it, until what comes back is called.
    pub fn unplug(&self) -> impl FnOnce() {
        let driver = Path::new(DRIVER.folder);
        let device = std::fs::read_dir(driver)
            .expect("the driver is there")
            .map(|entry| {
                entry
                    .expect("can be read")
                    .file_name()
                    .into_string()
                    .expect("plain text")
            })
            .find(|name| name.starts_with(DRIVER.devices))
            .expect("it drives a display");
        super::write(&driver.join("unbind"), &device);
        move || {
            super::write(&driver.join("bind"), &device);
            super::wait_until("the framebuffer", || Path::new(DEVICE).exists());
        }
    }

    /// Sets another mode, as a tool like fbset would. The board's display has one only: 480 × 320 at 32 bits.
    pub fn mode(&self, width: u32, height: u32, bits: u32) {
        const FBIOGET_VSCREENINFO: libc::c_ulong = 0x4600;
        const FBIOPUT_VSCREENINFO: libc::c_ulong = 0x4601;
        let device = std::fs::File::options()
            .read(true)
            .write(true)
            .open(DEVICE)
            .expect("opens");
        // `struct fb_var_screeninfo` is 40 words: visible size, virtual size, offset, bits per pixel, …
        let mut words = [0u32; 40];
        // SAFETY: the kernel writes these 160 bytes.
        let done = unsafe { libc::ioctl(device.as_raw_fd(), FBIOGET_VSCREENINFO as _, &raw mut words) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        words[..7].copy_from_slice(&[width, height, width, height, 0, 0, bits]);
        // SAFETY: the kernel reads these 160 bytes, and writes what it makes of them.
        let done = unsafe { libc::ioctl(device.as_raw_fd(), FBIOPUT_VSCREENINFO as _, &raw mut words) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }
}

/// What the framebuffer shows, as RGB, 8 bits a colour.
pub fn screenshot() -> Canvas {
    let layout = framebuffer::describe(Path::new(DEVICE))
        .expect("can be asked")
        .expect("can be drawn on");
    let memory = std::fs::read(DEVICE).expect("can be read");
    let mut shot = Canvas::new(layout.width, layout.height);
    let bytes = layout.bits_per_pixel as usize / 8;
    for y in 0..layout.height as usize {
        for x in 0..layout.width as usize {
            let at = y * layout.line_length as usize + x * bytes;
            let mut pixel = [0; 4];
            pixel[..bytes].copy_from_slice(&memory[at..at + bytes]);
            let pixel = u32::from_le_bytes(pixel);
            for (n, bits) in [layout.red, layout.green, layout.blue].into_iter().enumerate() {
                let most = (1 << bits.length) - 1;
                let value = (pixel >> bits.offset) & most;
                shot.rgb[(y * layout.width as usize + x) * 3 + n] = (value * 255 / most) as u8;
            }
        }
    }
    shot
}

pub fn furthest(a: &Canvas, b: &Canvas) -> u8 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    a.rgb
        .iter()
        .zip(&b.rgb)
        .map(|(a, b)| a.abs_diff(*b))
        .max()
        .unwrap_or(0)
}

/// A picture file, as RGB.
pub fn picture(path: &Path) -> Canvas {
    let picture = image::open(path).expect("a picture").into_rgb8();
    Canvas {
        width: picture.width(),
        height: picture.height(),
        rgb: picture.into_raw(),
    }
}
