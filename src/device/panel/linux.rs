//! The buses of this machine: spidev and i2c-dev by `linux-embedded-hal`, lines by the station's own GPIO.

use super::{Bus, PanelError};
use crate::config::PanelLine;
use crate::device::gpio::{Chip, Drive};
use embedded_hal::digital;
use linux_embedded_hal::i2cdev::linux::LinuxI2CError;
use linux_embedded_hal::spidev::{SpiModeFlags, Spidev, SpidevOptions};
use linux_embedded_hal::{Delay, I2cdev, SpidevDevice};
use std::fmt;
use std::io;
use std::path::Path;

/// The kernel's devices.
#[derive(Clone, Copy, Debug)]
pub struct Linux;

impl Bus for Linux {
    type Spi = SpidevDevice;
    type I2c = I2cdev;
    type Line = DrivenLine;
    type Delay = Delay;

    fn spi(&self, device: &Path, hz: u32, mode: u8) -> Result<SpidevDevice, PanelError> {
        let failed = |cause: io::Error| PanelError::Open {
            device: device.to_owned(),
            advice: advice(&cause, "spi"),
            cause,
        };
        let mut spi = Spidev::open(device).map_err(failed)?;
        let mode = [
            SpiModeFlags::SPI_MODE_0,
            SpiModeFlags::SPI_MODE_1,
            SpiModeFlags::SPI_MODE_2,
            SpiModeFlags::SPI_MODE_3,
        ][usize::from(mode & 3)];
        let options = SpidevOptions::new()
            .bits_per_word(8)
            .max_speed_hz(hz)
            .mode(mode)
            .build();
        spi.configure(&options).map_err(failed)?;
        Ok(SpidevDevice(spi))
    }

    fn i2c(&self, device: &Path) -> Result<I2cdev, PanelError> {
        I2cdev::new(device).map_err(|error| {
            let cause = match error {
                LinuxI2CError::Io(cause) => cause,
                LinuxI2CError::Errno(number) => io::Error::from_raw_os_error(number),
            };
            PanelError::Open {
                device: device.to_owned(),
                advice: advice(&cause, "i2c"),
                cause,
            }
        })
    }

    fn line(&self, line: &PanelLine, on: bool) -> Result<DrivenLine, PanelError> {
        let drive = Chip::find(&line.chip)?.drive(&[(line.name.clone(), on != line.active_low)])?;
        Ok(DrivenLine {
            drive,
            active_low: line.active_low,
        })
    }

    fn delay(&self) -> Delay {
        Delay
    }
}

fn advice(error: &io::Error, group: &str) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "Switch the {group} bus on (device tree, on a Raspberry Pi dtparam={}=on) or correct [display.panel]; \
             `elek probe` lists the buses there are",
            if group == "i2c" { "i2c_arm" } else { group }
        ),
        io::ErrorKind::PermissionDenied => {
            format!("Let the user that runs elek join the group `{group}` (usermod -aG {group} USER)")
        }
        _ => "See what the kernel says about it (dmesg)".into(),
    }
}

/// An output line of the panel, as `embedded-hal` knows lines.
#[derive(Debug)]
pub struct DrivenLine {
    drive: Drive,
    active_low: bool,
}

impl DrivenLine {
    fn set(&mut self, on: bool) -> Result<(), LineError> {
        self.drive.set(0, on != self.active_low).map_err(LineError)
    }
}

impl digital::ErrorType for DrivenLine {
    type Error = LineError;
}

impl digital::OutputPin for DrivenLine {
    fn set_low(&mut self) -> Result<(), LineError> {
        self.set(false)
    }

    fn set_high(&mut self) -> Result<(), LineError> {
        self.set(true)
    }
}

#[derive(Debug)]
pub struct LineError(io::Error);

impl digital::Error for LineError {
    fn kind(&self) -> digital::ErrorKind {
        digital::ErrorKind::Other
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a line cannot be switched: {}", self.0)
    }
}
