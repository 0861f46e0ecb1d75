//! A small panel on SPI or I²C: `[display.panel]`.

use super::LineName;
use crate::units::Micros;
use std::path::{Path, PathBuf};

/// Bits of a pixel on the wire: two bytes of colour, or one dot.
const COLOUR_BITS: u64 = 16;
const MONO_BITS: u64 = 1;
/// What I²C is reckoned with: the fast mode of the standard, which every SSD1306 keeps up with.
const I2C_HZ: u64 = 400_000;
/// Each byte on I²C is followed by its acknowledgement.
const I2C_BITS_A_BYTE: u64 = 9;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panel {
    pub driver: PanelDriver,
    pub bus: PanelBus,
    pub reset: Option<PanelLine>,
    pub backlight: Option<PanelLine>,
    /// Columns and rows as the glass is made, before it is turned.
    pub glass: (u16, u16),
    /// How far the picture is turned clockwise.
    pub rotation: Rotation,
    /// The glass is mounted on its controller the other way round.
    pub mirror: bool,
    /// First column and row of the controller's memory that the glass shows.
    pub offset: (u16, u16),
    /// The glass shows the opposite of what it is sent.
    pub inverted: bool,
    /// The glass has blue where others have red.
    pub bgr: bool,
}

/// The controller on the panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanelDriver {
    St7789,
    Ili9341,
    Ssd1306,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PanelBus {
    Spi {
        device: PathBuf,
        hz: u32,
        /// 0 to 3: polarity and phase of the clock.
        mode: u8,
        data_command: PanelLine,
    },
    I2c {
        device: PathBuf,
        address: u8,
    },
}

/// An output line of the panel. It belongs to the display, not to the station's outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanelLine {
    /// Label, name (`gpiochip0`) or path of the chip.
    pub chip: String,
    pub name: LineName,
    pub active_low: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    None,
    Quarter,
    Half,
    ThreeQuarters,
}

impl Panel {
    /// Width and height of the picture as people see it.
    pub fn size(&self) -> (u32, u32) {
        let (columns, rows) = (u32::from(self.glass.0), u32::from(self.glass.1));
        match self.rotation {
            Rotation::None | Rotation::Half => (columns, rows),
            Rotation::Quarter | Rotation::ThreeQuarters => (rows, columns),
        }
    }

    /// Light and dark only.
    pub fn is_mono(&self) -> bool {
        self.driver == PanelDriver::Ssd1306
    }

    pub fn device(&self) -> &Path {
        match &self.bus {
            PanelBus::Spi { device, .. } | PanelBus::I2c { device, .. } => device,
        }
    }

    /// What a whole picture takes on the wire, without the gaps between transfers.
    pub fn full_picture(&self) -> Micros {
        let pixels = u64::from(self.glass.0) * u64::from(self.glass.1);
        let bits = pixels * if self.is_mono() { MONO_BITS } else { COLOUR_BITS };
        let (bits, hz) = match &self.bus {
            PanelBus::Spi { hz, .. } => (bits, u64::from(*hz)),
            PanelBus::I2c { .. } => (bits / 8 * I2C_BITS_A_BYTE, I2C_HZ),
        };
        // A picture has some million bits, so that this stays far within 64 bits.
        Micros::new((bits * 1_000_000 / hz.max(1)) as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(driver: PanelDriver, bus: PanelBus, glass: (u16, u16)) -> Panel {
        Panel {
            driver,
            bus,
            reset: None,
            backlight: None,
            glass,
            rotation: Rotation::Quarter,
            mirror: false,
            offset: (0, 0),
            inverted: false,
            bgr: false,
        }
    }

    #[test]
    fn a_whole_picture_costs_its_bits() {
        let line = PanelLine {
            chip: "io".into(),
            name: LineName::Offset(25),
            active_low: false,
        };
        let spi = PanelBus::Spi {
            device: "/dev/spidev0.0".into(),
            hz: 16_000_000,
            mode: 0,
            data_command: line,
        };
        let colour = panel(PanelDriver::Ili9341, spi, (240, 320));
        assert_eq!(colour.full_picture(), Micros::new(76_800));
        assert_eq!(colour.size(), (320, 240));
        let i2c = PanelBus::I2c {
            device: "/dev/i2c-1".into(),
            address: 0x3c,
        };
        assert_eq!(
            panel(PanelDriver::Ssd1306, i2c, (128, 64)).full_picture(),
            Micros::new(23_040)
        );
    }
}
