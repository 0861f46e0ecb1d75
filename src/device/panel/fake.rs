//! A bus for tests: it writes down what it is told, and behind it a controller makes the picture.
//!
//! The controllers are written after their data sheets, not after the crates that talk to them: they know
//! which commands there are, how a window is filled, how the memory is turned, and which waits a start
//! needs. What they are not told, or too early, is a failed test.

mod dcs;
mod ssd1306;

use super::{Bus, PanelError};
use crate::config::{Panel as Settings, PanelDriver, PanelLine, Rotation};
use dcs::Dcs;
use embedded_hal::delay::DelayNs;
use embedded_hal::{digital, i2c, spi};
use ssd1306::Mono;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

/// The name of the line that tells data from commands; others are "RESET" and "LIGHT".
pub const DATA_COMMAND: &str = "DC";

/// A panel on a bus, shared by all that is opened of it.
#[derive(Clone)]
pub struct FakeBus(Arc<Mutex<State>>);

pub struct State {
    pub chip: Chip,
    /// The address it answers at on I²C.
    pub address: u8,
    /// ns since the bus began; delays and bytes on the wire make it go on.
    pub now: u64,
    ns_per_byte: u64,
    /// Bytes transferred so far, addresses and all.
    pub bytes: u64,
    /// Transfers fail from this byte on.
    pub fails_from: Option<u64>,
    /// The device is not there.
    pub is_missing: bool,
    /// How often the bus was opened.
    pub opened: usize,
    data: bool,
    pub light: bool,
    pub reset_pulses: usize,
    reset: bool,
}

pub enum Chip {
    Dcs(Dcs),
    Mono(Mono),
}

/// How a glass is mounted on its controller.
#[derive(Clone, Copy)]
pub struct Glass {
    pub size: (usize, usize),
    pub offset: (usize, usize),
    pub mirror: bool,
    pub inverted: bool,
    pub bgr: bool,
}

impl FakeBus {
    /// A panel that is made as the settings say it is.
    pub fn for_panel(settings: &Settings) -> FakeBus {
        let glass = Glass {
            size: (usize::from(settings.glass.0), usize::from(settings.glass.1)),
            offset: (usize::from(settings.offset.0), usize::from(settings.offset.1)),
            mirror: settings.mirror,
            inverted: settings.inverted,
            bgr: settings.bgr,
        };
        let chip = match settings.driver {
            PanelDriver::St7789 | PanelDriver::Ili9341 => Chip::Dcs(Dcs::new(glass)),
            PanelDriver::Ssd1306 => Chip::Mono(Mono::new()),
        };
        FakeBus(Arc::new(Mutex::new(State {
            chip,
            address: 0x3c,
            now: 0,
            ns_per_byte: 500,
            bytes: 0,
            fails_from: None,
            is_missing: false,
            opened: 0,
            data: false,
            light: false,
            reset_pulses: 0,
            reset: true,
        })))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test has panicked with it")
    }

    /// What somebody sees who looks at the panel as it is mounted: RGB, width and height. `None` when it
    /// is dark.
    pub fn seen(&self, rotation: Rotation) -> Option<(Vec<u8>, u32, u32)> {
        let (pixels, width, height) = match &self.state().chip {
            Chip::Dcs(chip) => chip.seen()?,
            Chip::Mono(chip) => chip.seen()?,
        };
        let (pixels, width, height) = turned_back(&pixels, width, height, rotation);
        Some((pixels.concat(), width as u32, height as u32))
    }

    /// The power fails and comes back; nobody is told.
    pub fn lose_power(&self) {
        match &mut self.state().chip {
            Chip::Dcs(chip) => chip.power_on(),
            Chip::Mono(chip) => *chip = Mono::new(),
        }
    }
}

/// The glass hangs turned the other way, so that a picture that was turned clockwise is upright again.
fn turned_back(pixels: &[[u8; 3]], w: usize, h: usize, rotation: Rotation) -> (Vec<[u8; 3]>, usize, usize) {
    let at = |x: usize, y: usize| pixels[y * w + x];
    let all = |width: usize, height: usize, of: &dyn Fn(usize, usize) -> [u8; 3]| {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        (pixels.map(|(x, y)| of(x, y)).collect(), width, height)
    };
    match rotation {
        Rotation::None => all(w, h, &at),
        Rotation::Quarter => all(h, w, &|x, y| at(w - 1 - y, x)),
        Rotation::Half => all(w, h, &|x, y| at(w - 1 - x, h - 1 - y)),
        Rotation::ThreeQuarters => all(h, w, &|x, y| at(y, h - 1 - x)),
    }
}

impl State {
    fn transfer(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes += bytes as u64;
        self.now += bytes as u64 * self.ns_per_byte;
        match self.fails_from {
            Some(from) if self.bytes > from => Err(Fault),
            _ => Ok(()),
        }
    }

    fn spi(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        assert!(!bytes.is_empty() && bytes.len() <= 4_096, "{} bytes", bytes.len());
        assert!(self.reset, "a controller in reset hears nothing");
        self.transfer(bytes.len())?;
        let (data, now) = (self.data, self.now);
        match &mut self.chip {
            Chip::Dcs(chip) if data => chip.data(bytes),
            Chip::Dcs(chip) => bytes.iter().for_each(|byte| chip.command(*byte, now)),
            Chip::Mono(chip) if data => chip.data(bytes),
            Chip::Mono(chip) => chip.commands(bytes),
        }
        Ok(())
    }

    fn i2c(&mut self, address: u8, bytes: &[u8]) -> Result<(), Fault> {
        self.transfer(bytes.len() + 1)?;
        let Chip::Mono(chip) = &mut self.chip else {
            panic!("this controller has no I²C");
        };
        if address != self.address {
            return Err(Fault);
        }
        chip.message(bytes);
        Ok(())
    }

    fn switch(&mut self, line: &str, high: bool) {
        match line {
            DATA_COMMAND => self.data = high,
            "LIGHT" => self.light = high,
            "RESET" => {
                if self.reset && !high {
                    self.reset_pulses += 1;
                    if let Chip::Dcs(chip) = &mut self.chip {
                        chip.reset(self.now);
                    }
                }
                self.reset = high;
            }
            other => panic!("there is no line {other}"),
        }
    }
}

impl Bus for FakeBus {
    type Spi = FakeBus;
    type I2c = FakeBus;
    type Line = FakeLine;
    type Delay = FakeBus;

    fn spi(&self, device: &Path, hz: u32, mode: u8) -> Result<FakeBus, PanelError> {
        assert!((100_000..=80_000_000).contains(&hz) && mode < 4);
        self.open(device)
    }

    fn i2c(&self, device: &Path) -> Result<FakeBus, PanelError> {
        self.open(device)
    }

    fn line(&self, line: &PanelLine, on: bool) -> Result<FakeLine, PanelError> {
        let name = line.name.to_string();
        self.state().switch(&name, on);
        Ok(FakeLine(self.clone(), name))
    }

    fn delay(&self) -> FakeBus {
        self.clone()
    }
}

impl FakeBus {
    fn open(&self, device: &Path) -> Result<FakeBus, PanelError> {
        let mut state = self.state();
        if state.is_missing {
            return Err(PanelError::Open {
                device: device.to_owned(),
                cause: io::Error::from_raw_os_error(libc::ENOENT),
                advice: "Put it back".into(),
            });
        }
        state.opened += 1;
        Ok(self.clone())
    }
}

impl DelayNs for FakeBus {
    fn delay_ns(&mut self, ns: u32) {
        self.state().now += u64::from(ns);
    }
}

#[derive(Debug)]
pub struct Fault;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote I/O error")
    }
}

impl spi::Error for Fault {
    fn kind(&self) -> spi::ErrorKind {
        spi::ErrorKind::Other
    }
}

impl i2c::Error for Fault {
    fn kind(&self) -> i2c::ErrorKind {
        i2c::ErrorKind::Other
    }
}

impl digital::Error for Fault {
    fn kind(&self) -> digital::ErrorKind {
        digital::ErrorKind::Other
    }
}

impl spi::ErrorType for FakeBus {
    type Error = Fault;
}

impl spi::SpiDevice for FakeBus {
    fn transaction(&mut self, operations: &mut [spi::Operation<'_, u8>]) -> Result<(), Fault> {
        operations.iter().try_for_each(|operation| match operation {
            spi::Operation::Write(bytes) => self.state().spi(bytes),
            other => panic!("a panel is only written to, not {other:?}"),
        })
    }
}

impl i2c::ErrorType for FakeBus {
    type Error = Fault;
}

impl i2c::I2c for FakeBus {
    fn transaction(&mut self, address: u8, operations: &mut [i2c::Operation<'_>]) -> Result<(), Fault> {
        operations.iter().try_for_each(|operation| match operation {
            i2c::Operation::Write(bytes) => self.state().i2c(address, bytes),
            other => panic!("a panel is only written to, not {other:?}"),
        })
    }
}

/// An output line of the panel.
pub struct FakeLine(FakeBus, String);

impl digital::ErrorType for FakeLine {
    type Error = Fault;
}

impl digital::OutputPin for FakeLine {
    fn set_low(&mut self) -> Result<(), Fault> {
        self.0.state().switch(&self.1, false);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Fault> {
        self.0.state().switch(&self.1, true);
        Ok(())
    }
}
