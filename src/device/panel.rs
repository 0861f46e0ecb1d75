//! Small panels: a controller with its own memory behind SPI or I²C, and glass on top of it.
//!
//! | controller | bus | colours | a whole picture takes |
//! |---|---|---|---|
//! | ST7789, ILI9341 (`mipidsi`) | SPI | 65,536 | 240 × 320 at 16 MHz 77 ms, at 40 MHz 31 ms |
//! | SSD1306 (`ssd1306`) | I²C, SPI | light, dark | 128 × 64 at 400 kHz 23 ms |
//!
//! A whole picture is sent once; from then on only what has changed. On I²C a panel answers, and is asked even when
//! nothing has. On SPI nobody does: a panel that lost its power takes every byte as well as one that works. Therefore
//! [`Panel::begin_anew`] is there, to be called now and then.

mod changed;
#[cfg(test)]
pub(crate) mod fake;
mod linux;
#[cfg(test)]
mod tests;
mod wire;

pub use linux::Linux;
pub use wire::Bus;

use super::gpio::GpioError;
use crate::config::{Panel as Settings, PanelBus, PanelDriver, Rotation};
use changed::{Area, changed};
use display_interface::DisplayError;
use embedded_graphics::pixelcolor::{Rgb565, Rgb888, RgbColor};
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::OutputPin;
use mipidsi::interface::InterfacePixelFormat;
use mipidsi::models::{ILI9341Rgb565, Model, ST7789};
use mipidsi::options::{ColorInversion, ColorOrder, Orientation, Rotation as Turned};
use mipidsi::{Builder, InitError, NoResetPin};
use ssd1306::Ssd1306;
use ssd1306::mode::{BufferedGraphicsMode, DisplayConfig};
use ssd1306::rotation::DisplayRotation;
use ssd1306::size::DisplaySize128x64;
use std::io;
use std::path::PathBuf;
use wire::{BusError, Wire};

/// The longest pulse that any of the controllers asks for is 10 µs; a line through a level shifter may be slow.
const RESET_PULSE_US: u32 = 1_000;
/// After a reset a controller reads its own settings, and may not be woken before.
const RESET_DONE_US: u32 = 120_000;

/// Why a panel cannot be drawn on.
#[derive(Debug, thiserror::Error)]
pub enum PanelError {
    #[error("cannot open the panel's bus {device}: {cause}. {advice}")]
    Open {
        device: PathBuf,
        cause: io::Error,
        advice: String,
    },
    #[error("a line of the panel cannot be had: {0}")]
    Line(#[from] GpioError),
    #[error("the panel on {device} does not take what it is sent: {why}. {advice}")]
    Lost {
        device: PathBuf,
        why: String,
        advice: &'static str,
    },
}

/// An open panel.
pub struct Panel<B: Bus> {
    settings: Settings,
    bus: B,
    controller: Controller<B>,
    reset: Option<B::Line>,
    backlight: Option<B::Line>,
    is_lit: bool,
    /// What the glass shows, row by row; nothing while that is not known.
    shown: Vec<Rgb565>,
}

type Coloured<B, M> = mipidsi::Display<Wire<B>, M, NoResetPin>;
type Mono<B> = Ssd1306<Wire<B>, DisplaySize128x64, BufferedGraphicsMode<DisplaySize128x64>>;

enum Controller<B: Bus> {
    St7789(Coloured<B, ST7789>),
    Ili9341(Coloured<B, ILI9341Rgb565>),
    Ssd1306(Mono<B>),
}

impl<B: Bus> Panel<B> {
    /// Opens the bus and the lines, and starts the controller. Takes about a third of a second, for which
    /// the controllers want to be left alone.
    pub fn open(settings: &Settings, bus: B) -> Result<Panel<B>, PanelError> {
        let line = |line: &Option<_>, on| line.as_ref().map(|line| bus.line(line, on)).transpose();
        let mut reset = line(&settings.reset, true)?;
        // Dark until there is something to see: a controller begins with noise in its memory.
        let backlight = line(&settings.backlight, false)?;
        let wire = Wire::open(&settings.bus, &bus)?;
        let started = start(settings, wire, reset.as_mut(), &mut bus.delay());
        Ok(Panel {
            controller: started.map_err(|error| lost(settings, error))?,
            settings: settings.clone(),
            bus,
            reset,
            backlight,
            is_lit: false,
            shown: Vec::new(),
        })
    }

    /// Starts the controller again, as after it lost its power; the next picture is sent whole.
    pub fn begin_anew(self) -> Result<Panel<B>, PanelError> {
        let Panel {
            settings,
            bus,
            controller,
            mut reset,
            ..
        } = self;
        let wire = controller.release();
        let started = start(&settings, wire, reset.as_mut(), &mut bus.delay());
        Ok(Panel {
            controller: started.map_err(|error| lost(&settings, error))?,
            settings,
            bus,
            reset,
            shown: Vec::new(),
            ..self
        })
    }

    /// Shows a picture of the size that the settings say (RGB, 3 bytes a pixel, without padding). After an
    /// error nobody knows what the controller holds, and the panel is gone: it is to be opened again.
    pub fn show(self, rgb: &[u8]) -> Result<Panel<B>, PanelError> {
        let (width, height) = self.settings.size();
        let (width, height) = (width as usize, height as usize);
        assert_eq!(rgb.len(), width * height * 3, "the picture has the panel's size");
        let (pixels, _) = rgb.as_chunks::<3>();
        let picture: Vec<Rgb565> = pixels
            .iter()
            .map(|[r, g, b]| Rgb888::new(*r, *g, *b).into())
            .collect();
        let areas = match self.shown.is_empty() {
            true => vec![Area {
                x: 0..width,
                y: 0..height,
            }],
            false => changed(&self.shown, &picture, width),
        };
        let Panel {
            settings,
            controller,
            mut backlight,
            ..
        } = self;
        let sent = controller.send(&picture, width, &areas);
        let controller = sent.map_err(|error| lost(&settings, error))?;
        if let (Some(line), false) = (&mut backlight, self.is_lit) {
            line.set_high()
                .map_err(|error| lost(&settings, BusError(error.to_string())))?;
        }
        Ok(Panel {
            settings,
            controller,
            backlight,
            is_lit: true,
            shown: picture,
            ..self
        })
    }
}

impl<B: Bus> Controller<B> {
    fn send(self, picture: &[Rgb565], width: usize, areas: &[Area]) -> Result<Self, BusError> {
        match self {
            Controller::St7789(mut display) => {
                send(&mut display, picture, width, areas).map(|()| Controller::St7789(display))
            }
            Controller::Ili9341(mut display) => {
                send(&mut display, picture, width, areas).map(|()| Controller::Ili9341(display))
            }
            Controller::Ssd1306(mut display) => match send_mono(&mut display, picture, width, areas) {
                Ok(()) => Ok(Controller::Ssd1306(display)),
                Err(error) => Err(why(display.release(), &error)),
            },
        }
    }

    fn release(self) -> Wire<B> {
        match self {
            Controller::St7789(display) => display.release().0,
            Controller::Ili9341(display) => display.release().0,
            Controller::Ssd1306(display) => display.release(),
        }
    }
}

fn start<B: Bus>(
    settings: &Settings,
    wire: Wire<B>,
    reset: Option<&mut B::Line>,
    delay: &mut B::Delay,
) -> Result<Controller<B>, BusError> {
    if let Some(reset) = reset {
        let failed = |error: &dyn std::fmt::Display| BusError(error.to_string());
        reset.set_low().map_err(|error| failed(&error))?;
        delay.delay_us(RESET_PULSE_US);
        reset.set_high().map_err(|error| failed(&error))?;
        delay.delay_us(RESET_DONE_US);
    }
    match settings.driver {
        PanelDriver::St7789 => start_coloured(ST7789, settings, wire, delay).map(Controller::St7789),
        PanelDriver::Ili9341 => start_coloured(ILI9341Rgb565, settings, wire, delay).map(Controller::Ili9341),
        PanelDriver::Ssd1306 => start_mono(settings, wire).map(Controller::Ssd1306),
    }
}

fn start_coloured<B: Bus, M: Model<ColorFormat: InterfacePixelFormat<u8>>>(
    model: M,
    settings: &Settings,
    wire: Wire<B>,
    delay: &mut B::Delay,
) -> Result<Coloured<B, M>, BusError> {
    let rotation = match settings.rotation {
        Rotation::None => Turned::Deg0,
        Rotation::Quarter => Turned::Deg90,
        Rotation::Half => Turned::Deg180,
        Rotation::ThreeQuarters => Turned::Deg270,
    };
    let mirrored = settings.mirror;
    let inversion = match settings.inverted {
        true => ColorInversion::Inverted,
        false => ColorInversion::Normal,
    };
    let order = if settings.bgr {
        ColorOrder::Bgr
    } else {
        ColorOrder::Rgb
    };
    let built = Builder::new(model, wire)
        .display_size(settings.glass.0, settings.glass.1)
        .display_offset(settings.offset.0, settings.offset.1)
        .orientation(Orientation { rotation, mirrored })
        .invert_colors(inversion)
        .color_order(order)
        .init(delay);
    built.map_err(|error| match error {
        InitError::Interface(error) => error,
        // The configuration was checked against the memory of the controller.
        InitError::InvalidConfiguration(error) => BusError(format!("its settings cannot be: {error:?}")),
        InitError::ResetPin(never) => match never {},
    })
}

fn start_mono<B: Bus>(settings: &Settings, wire: Wire<B>) -> Result<Mono<B>, BusError> {
    let rotation = match settings.rotation {
        Rotation::Half => DisplayRotation::Rotate180,
        _ => DisplayRotation::Rotate0,
    };
    let mut display = Ssd1306::new(wire, DisplaySize128x64, rotation).into_buffered_graphics_mode();
    match display.init() {
        Ok(()) => Ok(display),
        Err(error) => Err(why(display.release(), &error)),
    }
}

/// What the kernel said, which `ssd1306` does not hand on.
fn why<B: Bus>(wire: Wire<B>, error: &impl std::fmt::Debug) -> BusError {
    BusError(wire.why.unwrap_or_else(|| format!("{error:?}")))
}

fn send<B: Bus, M: Model<ColorFormat = Rgb565>>(
    display: &mut Coloured<B, M>,
    picture: &[Rgb565],
    width: usize,
    areas: &[Area],
) -> Result<(), BusError> {
    // Sides of these panels are far below 65,536.
    let edge = |place: usize| place as u16;
    for Area { x, y } in areas {
        let rows = y
            .clone()
            .map(|y| &picture[y * width + x.start..y * width + x.end]);
        display.set_pixels(
            edge(x.start),
            edge(y.start),
            edge(x.end - 1),
            edge(y.end - 1),
            rows.flatten().copied(),
        )?;
    }
    Ok(())
}

fn send_mono<B: Bus>(
    display: &mut Mono<B>,
    picture: &[Rgb565],
    width: usize,
    areas: &[Area],
) -> Result<(), DisplayError> {
    if areas.is_empty() {
        // It is on; but were it gone, nobody would acknowledge the command.
        return display.set_display_on(true);
    }
    for area in areas {
        for y in area.y.clone() {
            for x in area.x.clone() {
                // The page for these panels is black and white; green has the most bits to tell them apart.
                let is_light = picture[y * width + x].g() > Rgb565::MAX_G / 2;
                display.set_pixel(x as u32, y as u32, is_light);
            }
        }
        // Sends the rows of eight that the area touches.
        display.flush()?;
    }
    Ok(())
}

fn lost(settings: &Settings, BusError(why): BusError) -> PanelError {
    PanelError::Lost {
        device: settings.device().to_owned(),
        why,
        advice: match settings.bus {
            PanelBus::Spi { .. } => "See what the kernel says about it (dmesg)",
            PanelBus::I2c { .. } => {
                "Check the panel's plug and power and its `address` (`i2cdetect -y N` of i2c-tools shows who                  answers); a kernel driver for it must not be loaded"
            }
        },
    }
}
