//! The kernel's framebuffer: a display as a file of pixels, in whatever order its hardware likes.
//!
//! Pixels are written with `pwrite`, not through a mapping: a framebuffer can go away while it is used
//! (a cable, a driver), and touching a mapping of it then ends the process with a bus error, while a
//! write merely fails. A picture a second costs nothing either way.

use rustix::fs::{Mode, OFlags};
use serde::Serialize;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

// Requests of linux/fb.h and linux/kd.h; older than the scheme that puts sizes into numbers.
const FBIOGET_VSCREENINFO: libc::c_ulong = 0x4600;
const FBIOGET_FSCREENINFO: libc::c_ulong = 0x4602;
const FBIOBLANK: libc::c_ulong = 0x4611;
const FB_BLANK_UNBLANK: libc::c_ulong = 0;
const FB_TYPE_PACKED_PIXELS: u32 = 0;
const FB_VISUAL_TRUECOLOR: u32 = 2;
const FB_VISUAL_DIRECTCOLOR: u32 = 4;
const KDSETMODE: libc::c_ulong = 0x4b3a;
const KDGETMODE: libc::c_ulong = 0x4b3b;
const KD_TEXT: libc::c_ulong = 0;
const KD_GRAPHICS: libc::c_ulong = 1;

/// Largest display that elek draws on: 8K.
const SIDE_MAX: u32 = 8_192;

/// Where one colour lies in a pixel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bits {
    pub offset: u32,
    pub length: u32,
    #[serde(skip)]
    msb_right: u32,
}

/// `struct fb_var_screeninfo` of linux/fb.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Variable {
    xres: u32,
    yres: u32,
    xres_virtual: u32,
    yres_virtual: u32,
    xoffset: u32,
    yoffset: u32,
    bits_per_pixel: u32,
    grayscale: u32,
    red: Bits,
    green: Bits,
    blue: Bits,
    transparency: Bits,
    nonstd: u32,
    rest: [u32; 19],
}

/// `struct fb_fix_screeninfo` of linux/fb.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Fixed {
    id: [u8; 16],
    smem_start: libc::c_ulong,
    smem_len: u32,
    kind: u32,
    type_aux: u32,
    visual: u32,
    xpanstep: u16,
    ypanstep: u16,
    ywrapstep: u16,
    line_length: u32,
    mmio_start: libc::c_ulong,
    mmio_len: u32,
    accel: u32,
    capabilities: u16,
    reserved: [u16; 2],
}

/// How a framebuffer is laid out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// The driver's name for it.
    pub name: String,
    pub width: u32,
    pub height: u32,
    /// Bytes from row to row.
    pub line_length: u32,
    pub bits_per_pixel: u32,
    pub red: Bits,
    pub green: Bits,
    pub blue: Bits,
    #[serde(skip)]
    transparency: Bits,
    /// First byte of the visible part.
    #[serde(skip)]
    start: u64,
}

/// Why a framebuffer cannot be drawn on.
#[derive(Debug, thiserror::Error)]
pub enum FramebufferError {
    #[error("cannot open the display {device}: {cause}. {advice}")]
    Open {
        device: PathBuf,
        cause: io::Error,
        advice: &'static str,
    },
    #[error("{device} cannot be drawn on: {why}. {advice}")]
    Unusable {
        device: PathBuf,
        why: String,
        advice: &'static str,
    },
    #[error("the display {device} is gone: {cause}. Check its cable and driver")]
    Write { device: PathBuf, cause: io::Error },
}

/// An open framebuffer.
#[derive(Debug)]
pub struct Framebuffer {
    device: PathBuf,
    file: File,
    layout: Layout,
    /// The visible rows, packed; reused from picture to picture.
    packed: Vec<u8>,
}

impl Framebuffer {
    pub fn open(device: &Path) -> Result<Framebuffer, FramebufferError> {
        let file = open_device(device).map_err(|cause| FramebufferError::Open {
            device: device.to_owned(),
            advice: advice_on_open(&cause),
            cause,
        })?;
        let layout = read_layout(&file).map_err(|cause| FramebufferError::Unusable {
            device: device.to_owned(),
            why: format!("it does not answer as a framebuffer ({cause})"),
            advice: "`elek probe` lists the displays",
        })?;
        let layout = layout.map_err(|why| FramebufferError::Unusable {
            device: device.to_owned(),
            why,
            advice: "Set another mode on the kernel's command line (video=…)",
        })?;
        // SAFETY: the request takes a number, not a pointer. That not every driver can switch its
        // display on does not matter.
        unsafe { libc::ioctl(file.as_raw_fd(), FBIOBLANK as _, FB_BLANK_UNBLANK) };
        Ok(Framebuffer {
            device: device.to_owned(),
            file,
            layout,
            packed: Vec::new(),
        })
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Shows a picture (RGB, 3 bytes a pixel, `width` × `height` without padding), enlarged by whole
    /// numbers as far as it fits, in the middle of a black display.
    pub fn show(&mut self, rgb: &[u8], width: u32, height: u32) -> Result<(), FramebufferError> {
        let lost = |cause| FramebufferError::Write {
            device: self.device.clone(),
            cause,
        };
        // Another mode may have been set meanwhile.
        match read_layout(&self.file).map_err(lost)? {
            Ok(layout) if layout == self.layout => {}
            _ => return Err(lost(io::Error::other("its mode has changed"))),
        }
        pack(&self.layout, rgb, width, height, &mut self.packed);
        self.file
            .write_all_at(&self.packed, self.layout.start)
            .map_err(lost)
    }
}

fn open_device(device: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(device, flags, Mode::empty())?.into())
}

fn advice_on_open(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "Connect the display, load its driver, or take `framebuffer` out of [display]; `elek probe` lists \
             the displays there are"
        }
        io::ErrorKind::PermissionDenied => {
            "Let the user that runs elek join the group `video` (usermod -aG video USER)"
        }
        _ => "See what the kernel says about it (dmesg)",
    }
}

/// Asks a framebuffer for its layout without drawing on it. The inner error says why it cannot be used.
pub fn describe(device: &Path) -> io::Result<Result<Layout, String>> {
    read_layout(&open_device(device)?)
}

fn read_layout(file: &File) -> io::Result<Result<Layout, String>> {
    let (mut variable, mut fixed) = (Variable::default(), Fixed::default());
    // SAFETY: the kernel writes one `fb_var_screeninfo`, which `Variable` mirrors in size and layout
    // (a test holds its size); it lives until the call returns.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), FBIOGET_VSCREENINFO as _, &raw mut variable) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the same for `fb_fix_screeninfo` and `Fixed`.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), FBIOGET_FSCREENINFO as _, &raw mut fixed) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(layout_of(&variable, &fixed))
}

fn layout_of(variable: &Variable, fixed: &Fixed) -> Result<Layout, String> {
    let end = fixed.id.iter().position(|b| *b == 0).unwrap_or(fixed.id.len());
    let (width, height, bits) = (variable.xres, variable.yres, variable.bits_per_pixel);
    if fixed.kind != FB_TYPE_PACKED_PIXELS
        || ![FB_VISUAL_TRUECOLOR, FB_VISUAL_DIRECTCOLOR].contains(&fixed.visual)
        || variable.nonstd != 0
    {
        return Err(format!(
            "its pixels are not plain colours ({bits} bits, visual {})",
            fixed.visual
        ));
    }
    if ![16, 24, 32].contains(&bits) {
        return Err(format!("it has {bits} bits per pixel; 16, 24 or 32 are needed"));
    }
    let fits = |c: &Bits| c.offset.saturating_add(c.length) <= bits && (1..=16).contains(&c.length);
    if ![variable.red, variable.green, variable.blue].iter().all(fits) {
        return Err("the driver does not say where red, green and blue lie".into());
    }
    if !(1..=SIDE_MAX).contains(&width) || !(1..=SIDE_MAX).contains(&height) {
        return Err(format!("its size is {width} × {height}"));
    }
    let bytes = bits / 8;
    if fixed.line_length < width * bytes {
        return Err(format!(
            "its rows have {} bytes for {width} pixels",
            fixed.line_length
        ));
    }
    Ok(Layout {
        name: String::from_utf8_lossy(&fixed.id[..end]).into_owned(),
        width,
        height,
        line_length: fixed.line_length,
        bits_per_pixel: bits,
        red: variable.red,
        green: variable.green,
        blue: variable.blue,
        transparency: variable.transparency,
        start: u64::from(variable.yoffset) * u64::from(fixed.line_length)
            + u64::from(variable.xoffset) * u64::from(bytes),
    })
}

impl Layout {
    fn bytes(&self) -> usize {
        (self.bits_per_pixel / 8) as usize
    }

    /// A colour as the number that the display takes for it.
    fn pixel(&self, rgb: [u8; 3]) -> u32 {
        let mut pixel = 0;
        for (colour, bits) in rgb.into_iter().zip([self.red, self.green, self.blue]) {
            // 8 bits spread over `length`, so that 255 becomes all ones.
            let most = (1u32 << bits.length) - 1;
            pixel |= ((u32::from(colour) * most + 127) / 255) << bits.offset;
        }
        let clear = self.transparency;
        if clear.length > 0 && clear.offset + clear.length <= self.bits_per_pixel.min(31) + 1 {
            // Opaque.
            pixel |= (((1u64 << clear.length) - 1) << clear.offset) as u32;
        }
        pixel
    }

    fn put(&self, pixel: u32, out: &mut [u8]) {
        // Framebuffers keep the processor's byte order; of 24 bits, the three that matter.
        let bytes = pixel.to_ne_bytes();
        let from = if cfg!(target_endian = "big") {
            4 - self.bytes()
        } else {
            0
        };
        out.copy_from_slice(&bytes[from..from + self.bytes()]);
    }
}

/// Fills `out` with the whole visible part: the picture in the middle, black around it.
///
/// A picture that is larger than the display loses what does not fit, on all sides alike.
fn pack(layout: &Layout, rgb: &[u8], width: u32, height: u32, out: &mut Vec<u8>) {
    assert_eq!(
        rgb.len(),
        width as usize * height as usize * 3,
        "the picture is whole"
    );
    let (bytes, line) = (layout.bytes(), layout.line_length as usize);
    let (columns, rows) = (layout.width as usize, layout.height as usize);
    out.clear();
    out.resize(line * (rows - 1) + columns * bytes, 0);
    let black = layout.pixel([0; 3]);
    if width == 0 || height == 0 {
        return;
    }
    let zoom = zoom(layout, width, height);
    // Of each display pixel: the picture's pixel, or none in the margin.
    let source = |at: usize, side: usize, of: usize| {
        let place = at as i64 - (side as i64 - (of * zoom) as i64).div_euclid(2);
        usize::try_from(place.div_euclid(zoom as i64))
            .ok()
            .filter(|p| *p < of)
    };
    for row in 0..rows {
        let start = row * line;
        let y = source(row, rows, height as usize);
        for column in 0..columns {
            let x = source(column, columns, width as usize);
            let pixel = match (x, y) {
                (Some(x), Some(y)) => {
                    let at = (y * width as usize + x) * 3;
                    layout.pixel([rgb[at], rgb[at + 1], rgb[at + 2]])
                }
                _ => black,
            };
            let at = start + column * bytes;
            layout.put(pixel, &mut out[at..at + bytes]);
        }
    }
}

/// How many times the picture fits into the display in both directions, at least once.
fn zoom(layout: &Layout, width: u32, height: u32) -> usize {
    (layout.width / width).min(layout.height / height).max(1) as usize
}

/// The text console silenced: no cursor, no messages over the picture. Dropping it gives it back.
#[derive(Debug)]
pub struct Console {
    file: File,
    /// Its mode was changed, and to this it goes back.
    before: Option<libc::c_ulong>,
}

/// Cursor off and no screen saver; for consoles that must not be put into graphics mode.
const QUIET: &[u8] = b"\x1b[?25l\x1b[9;0]\x1b[2J";
const LOUD: &[u8] = b"\x1b[?25h";

impl Console {
    /// Graphics mode needs a right that a service may lack; cursor and screen saver are switched off anyway.
    pub fn silence(device: &Path) -> io::Result<Console> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(device, flags, Mode::empty())?);
        let mut mode: libc::c_int = 0;
        // SAFETY: the request writes one int, which lives until the call returns.
        let known = unsafe { libc::ioctl(file.as_raw_fd(), KDGETMODE as _, &raw mut mode) } == 0;
        file.write_at_once(QUIET)?;
        // SAFETY: the request takes a number, not a pointer.
        let set = known
            && mode as libc::c_ulong == KD_TEXT
            && unsafe { libc::ioctl(file.as_raw_fd(), KDSETMODE as _, KD_GRAPHICS) } == 0;
        Ok(Console {
            file,
            before: set.then_some(KD_TEXT),
        })
    }

    /// Whether kernel messages are kept off the picture as well.
    pub fn is_graphic(&self) -> bool {
        self.before.is_some()
    }
}

trait WriteAtOnce {
    fn write_at_once(&self, bytes: &[u8]) -> io::Result<()>;
}

impl WriteAtOnce for File {
    /// A terminal takes a few bytes whole or not at all, and never makes us wait.
    fn write_at_once(&self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut &*self, bytes)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Some(mode) = self.before {
            // SAFETY: the request takes a number, not a pointer.
            unsafe { libc::ioctl(self.file.as_raw_fd(), KDSETMODE as _, mode) };
        }
        // A console that is gone needs no cursor.
        let _ = self.file.write_at_once(LOUD);
    }
}

/// A plain display of this size, for tests of what is drawn on it.
#[cfg(test)]
pub fn sample(width: u32, height: u32) -> Layout {
    tests::layout(width, height, 32, tests::XRGB)
}

#[cfg(test)]
mod tests;
