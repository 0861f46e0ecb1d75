//! The way to a controller: SPI with a line that tells data from commands, or I²C.
//!
//! `mipidsi` and `ssd1306` each want an interface of their own; this is both, so that buffers, sizes of
//! transfers and errors are the same for all controllers. What it hangs on is a [`Bus`]: the kernel's
//! devices, or in tests one that writes down what it is told.

use super::PanelError;
use crate::config::{PanelBus, PanelLine};
use display_interface::{DataFormat, DisplayError, WriteOnlyDataCommand};
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::OutputPin;
use embedded_hal::i2c::I2c;
use embedded_hal::spi::SpiDevice;
use mipidsi::interface::{Interface, InterfaceKind};
use std::fmt;
use std::path::Path;

/// Longest transfer that the kernel's driver for SPI takes, unless it was told otherwise when it was
/// loaded (`spidev.bufsiz`).
const SPI_MAX: usize = 4_096;
/// Data in one message on I²C. Longer ones save little, and not every adapter takes them.
const I2C_MAX: usize = 64;
/// First byte of a message to an SSD1306: what follows is commands, or is for its memory.
const COMMANDS: u8 = 0x00;
const MEMORY: u8 = 0x40;

/// What panels hang on.
pub trait Bus {
    type Spi: SpiDevice<Error: fmt::Display>;
    type I2c: I2c<Error: fmt::Display>;
    type Line: OutputPin<Error: fmt::Display>;
    type Delay: DelayNs;

    fn spi(&self, device: &Path, hz: u32, mode: u8) -> Result<Self::Spi, PanelError>;
    fn i2c(&self, device: &Path) -> Result<Self::I2c, PanelError>;
    /// An output line; *high* of the pin is "on", whatever the level is.
    fn line(&self, line: &PanelLine, on: bool) -> Result<Self::Line, PanelError>;
    fn delay(&self) -> Self::Delay;
}

pub struct Wire<B: Bus> {
    way: Way<B>,
    buffer: Vec<u8>,
    /// Most bytes of one transfer.
    most: usize,
    /// Why the last transfer failed: `ssd1306` drops what it was told.
    pub why: Option<String>,
}

enum Way<B: Bus> {
    Spi { spi: B::Spi, data_command: B::Line },
    I2c { i2c: B::I2c, address: u8 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Commands,
    Data,
}

/// Why a transfer failed, in the words of the kernel.
#[derive(Debug)]
pub struct BusError(pub String);

impl BusError {
    fn new(error: impl fmt::Display) -> BusError {
        BusError(error.to_string())
    }
}

impl<B: Bus> Wire<B> {
    pub fn open(settings: &PanelBus, bus: &B) -> Result<Wire<B>, PanelError> {
        let (way, most) = match settings {
            PanelBus::Spi {
                device,
                hz,
                mode,
                data_command,
            } => {
                let data_command = bus.line(data_command, false)?;
                let spi = bus.spi(device, *hz, *mode)?;
                (Way::Spi { spi, data_command }, SPI_MAX)
            }
            PanelBus::I2c { device, address } => {
                let (i2c, address) = (bus.i2c(device)?, *address);
                (Way::I2c { i2c, address }, I2C_MAX + 1)
            }
        };
        Ok(Wire {
            way,
            buffer: Vec::with_capacity(most),
            most,
            why: None,
        })
    }

    fn write(&mut self, what: What, bytes: &[u8]) -> Result<(), BusError> {
        self.begin(what)?;
        bytes
            .iter()
            .try_for_each(|byte| self.push(what, std::slice::from_ref(byte)))?;
        self.send()
    }

    fn begin(&mut self, what: What) -> Result<(), BusError> {
        self.buffer.clear();
        match &mut self.way {
            Way::Spi { data_command, .. } => {
                let set = match what {
                    What::Commands => data_command.set_low(),
                    What::Data => data_command.set_high(),
                };
                set.map_err(BusError::new)
            }
            Way::I2c { .. } => {
                self.buffer.push(match what {
                    What::Commands => COMMANDS,
                    What::Data => MEMORY,
                });
                Ok(())
            }
        }
    }

    /// Adds bytes that stay together, and sends what is full.
    fn push(&mut self, what: What, bytes: &[u8]) -> Result<(), BusError> {
        if self.buffer.len() + bytes.len() > self.most {
            self.send()?;
            if let Way::I2c { .. } = self.way {
                self.begin(what)?;
            }
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn send(&mut self) -> Result<(), BusError> {
        let sent = match &mut self.way {
            Way::Spi { .. } if self.buffer.is_empty() => Ok(()),
            Way::Spi { spi, .. } => spi.write(&self.buffer).map_err(BusError::new),
            Way::I2c { i2c, address } => i2c.write(*address, &self.buffer).map_err(BusError::new),
        };
        self.buffer.clear();
        sent
    }
}

impl<B: Bus> Interface for Wire<B> {
    type Word = u8;
    type Error = BusError;

    const KIND: InterfaceKind = InterfaceKind::Serial4Line;

    fn send_command(&mut self, command: u8, args: &[u8]) -> Result<(), BusError> {
        self.write(What::Commands, &[command])?;
        match args {
            [] => Ok(()),
            args => self.write(What::Data, args),
        }
    }

    fn send_pixels<const N: usize>(
        &mut self,
        pixels: impl IntoIterator<Item = [u8; N]>,
    ) -> Result<(), BusError> {
        self.begin(What::Data)?;
        for pixel in pixels {
            self.push(What::Data, &pixel)?;
        }
        self.send()
    }

    fn send_repeated_pixel<const N: usize>(&mut self, pixel: [u8; N], count: u32) -> Result<(), BusError> {
        self.send_pixels(std::iter::repeat_n(pixel, count as usize))
    }
}

impl<B: Bus> WriteOnlyDataCommand for Wire<B> {
    fn send_commands(&mut self, commands: DataFormat<'_>) -> Result<(), DisplayError> {
        self.write_bytes(What::Commands, commands)
    }

    fn send_data(&mut self, data: DataFormat<'_>) -> Result<(), DisplayError> {
        self.write_bytes(What::Data, data)
    }
}

impl<B: Bus> Wire<B> {
    fn write_bytes(&mut self, what: What, bytes: DataFormat<'_>) -> Result<(), DisplayError> {
        // The only form that `ssd1306` sends.
        let DataFormat::U8(bytes) = bytes else {
            return Err(DisplayError::DataFormatNotImplemented);
        };
        self.write(what, bytes).map_err(|BusError(why)| {
            self.why = Some(why);
            DisplayError::BusWriteError
        })
    }
}
