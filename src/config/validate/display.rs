//! Where the status is drawn: picture file, framebuffer, small panel.

use super::*;

/// What a panel with this controller is like when the file does not say.
struct Usual {
    driver: PanelDriver,
    /// Sizes in which glasses with this controller are made, as written in the file.
    glasses: &'static [(&'static str, (u16, u16))],
    /// Memory of the controller.
    memory: (u16, u16),
    mhz: f64,
    mirror: bool,
    inverted: bool,
    bgr: bool,
}

/// Boards with an ST7789 mostly carry an IPS glass, which shows the opposite of what it is sent;
/// those with an ILI9341 a glass that is mounted mirrored, with blue first.
const USUAL: [(&str, Usual); 3] = [
    (
        "st7789",
        Usual {
            driver: PanelDriver::St7789,
            glasses: &[
                ("240x240", (240, 240)),
                ("240x280", (240, 280)),
                ("240x320", (240, 320)),
            ],
            memory: (240, 320),
            mhz: 16.0,
            mirror: false,
            inverted: true,
            bgr: false,
        },
    ),
    (
        "ili9341",
        Usual {
            driver: PanelDriver::Ili9341,
            glasses: &[("240x320", (240, 320))],
            memory: (240, 320),
            mhz: 16.0,
            mirror: true,
            inverted: false,
            bgr: true,
        },
    ),
    (
        "ssd1306",
        Usual {
            driver: PanelDriver::Ssd1306,
            glasses: &[("128x64", (128, 64))],
            memory: (128, 64),
            mhz: 8.0,
            mirror: false,
            inverted: false,
            bgr: false,
        },
    ),
];

const ROTATIONS: [(i64, Rotation); 4] = [
    (0, Rotation::None),
    (90, Rotation::Quarter),
    (180, Rotation::Half),
    (270, Rotation::ThreeQuarters),
];

/// The two addresses that an SSD1306 can be strapped to.
const ADDRESSES: [i64; 2] = [0x3c, 0x3d];

pub(super) fn display(s: &Section<'_>, lines: &Lines<'_>, cx: &Context<'_>) -> Option<Display> {
    let width = s.or("width", 480, |v| v.integer(240..=1280));
    let height = s.or("height", 320, |v| v.integer(240..=800));
    let png = s.optional("png", Value::text);
    let framebuffer = s.optional("framebuffer", |v| device_path(v, "/dev/fb0"));
    let console = s.optional("console", |v| device_path(v, "/dev/tty0"));
    let panel = s.optional("panel", |v| panel(v.section()?, lines));
    let framebuffer = framebuffer?.map(|at| at.value);
    let console = console?;
    if let (Some(console), None) = (&console, &framebuffer) {
        let problem = Problem::new("`display.console` is silenced for a framebuffer, and there is none")
            .at(console.span.clone(), "nothing to silence it for")
            .help("add `framebuffer = \"/dev/fb0\"`, or delete this line");
        s.problems.add(problem);
        return None;
    }
    // The console in the foreground is the one that would draw over ours.
    let console = match (console, &framebuffer) {
        (Some(at), _) => Some(at.value),
        (None, Some(_)) => Some(PathBuf::from("/dev/tty0")),
        (None, None) => None,
    };
    Some(Display {
        width: u32::try_from(width?).ok()?,
        height: u32::try_from(height?).ok()?,
        framebuffer,
        panel: panel?.map(|at| at.value),
        console,
        png: png?.map(|at| cx.base.join(at.value)),
    })
}

/// The button would turn nothing: a framebuffer and a picture file show all on one page.
pub(super) fn page_has_a_panel(root: &Section<'_>, cx: &Context<'_>) {
    if !root.written("station.lines.page") || root.written("display.panel") {
        return;
    }
    let problem = Problem::new("`station.lines.page` turns the pages of a small panel, and there is none");
    let problem = match root.place("station.lines.page") {
        Some(span) => problem.at(span, "nothing to turn"),
        None => problem,
    };
    cx.problems
        .add(problem.help("add [display.panel], or delete this line"));
}

/// Keys that do not belong to a controller or bus are not asked for, and so are unknown there.
fn panel(mut s: Section<'_>, lines: &Lines<'_>) -> Option<Panel> {
    let choices: Vec<(&str, usize)> = USUAL
        .iter()
        .enumerate()
        .map(|(n, (word, _))| (*word, n))
        .collect();
    let driver = s.required("driver", "driver = \"st7789\"", |v| v.choice(&choices));
    let Some(usual) = driver.map(|at| &USUAL[at.value].1) else {
        s.any_key();
        return None;
    };
    let bus = bus(&mut s, usual, lines);
    let reset = s.optional("reset", |v| lines.panel_line(v, false));
    let glass = glass(&s, usual);
    let colours = usual.driver != PanelDriver::Ssd1306;
    let rotation = s.or("rotation", Rotation::None, |v| rotation(v, !colours));
    let (mut backlight, mut mirror) = (Some(None), Some(usual.mirror));
    let (mut inverted, mut bgr) = (Some(usual.inverted), Some(usual.bgr));
    let mut offset = Some((0, 0));
    if colours {
        backlight = s.optional("backlight", |v| lines.panel_line(v, true));
        mirror = s.or("mirror", usual.mirror, Value::flag);
        inverted = s.or("inverted", usual.inverted, Value::flag);
        bgr = s.or("colours", usual.bgr, |v| {
            v.choice(&[("rgb", false), ("bgr", true)])
        });
    }
    if usual.glasses.len() > 1 {
        // Without a size nothing can be said of it; asked for it is, lest it be taken for unknown.
        offset = s.or("offset", (0, 0), |v| offset_of(v, glass?, usual.memory));
    }
    Some(Panel {
        driver: usual.driver,
        bus: bus?,
        reset: reset?.map(|at| at.value),
        backlight: backlight?.map(|at| at.value),
        glass: glass?,
        rotation: rotation?,
        mirror: mirror?,
        offset: offset?,
        inverted: inverted?,
        bgr: bgr?,
    })
}

fn bus(s: &mut Section<'_>, usual: &Usual, lines: &Lines<'_>) -> Option<PanelBus> {
    let found = match usual.driver {
        PanelDriver::Ssd1306 => s.one_of(
            &["spi", "i2c"],
            "i2c = \"/dev/i2c-1\", or spi = \"/dev/spidev0.0\"",
        ),
        _ => s.get("spi").map(|v| ("spi", v)).or_else(|| {
            s.missing("spi", "spi = \"/dev/spidev0.0\"");
            None
        }),
    };
    match found {
        Some(("i2c", v)) => {
            let device = device_path(&v, "/dev/i2c-1");
            let address = s.or("address", 0x3c, address);
            Some(PanelBus::I2c {
                device: device?,
                address: address?,
            })
        }
        Some((_, v)) => {
            let device = device_path(&v, "/dev/spidev0.0");
            // Above that no panel and no wire of this kind works; below it a picture takes minutes.
            let mhz = s.or("spi_mhz", usual.mhz, |v| v.number(0.1..=80.0));
            let mode = s.or("spi_mode", 0, |v| v.integer(0..=3));
            let line = s.required(
                "data_command",
                "data_command = { chip = \"…\", name = \"…\" }",
                |v| lines.panel_line(v, false),
            );
            Some(PanelBus::Spi {
                device: device?,
                hz: (mhz? * 1e6) as u32,
                mode: u8::try_from(mode?).ok()?,
                data_command: line?.value,
            })
        }
        None => {
            // Which further keys there are depends on the bus.
            s.any_key();
            None
        }
    }
}

fn address(v: &Value<'_>) -> Option<u8> {
    let address = v.integer(0..=0x7f)?;
    if !ADDRESSES.contains(&address) {
        v.refuse(
            format!("`{}` cannot be {address:#x}", v.path),
            "no SSD1306 answers there",
            "0x3c, or 0x3d (some boards print them as 0x78 and 0x7A)",
        );
        return None;
    }
    u8::try_from(address).ok()
}

/// One size needs not be said; of several the controller cannot tell which glass it drives.
fn glass(s: &Section<'_>, usual: &Usual) -> Option<(u16, u16)> {
    match usual.glasses {
        [(_, one)] => s.or("size", *one, |v| v.choice(usual.glasses)),
        several => s
            .required("size", "size = \"240x240\"", |v| v.choice(several))
            .map(|at| at.value),
    }
}

fn rotation(v: &Value<'_>, mono: bool) -> Option<Rotation> {
    let degrees = v.integer(0..=270)?;
    let found = ROTATIONS.iter().find(|(known, _)| *known == degrees);
    let (title, label) = match found {
        None => (format!("`{}` cannot be {degrees}", v.path), "not a quarter turn"),
        Some((_, turned)) if mono && !matches!(turned, Rotation::None | Rotation::Half) => (
            format!("`{}` cannot be {degrees} here", v.path),
            "64 pixels are too narrow for the page",
        ),
        Some((_, turned)) => return Some(*turned),
    };
    let help = if mono { "0 or 180" } else { "0, 90, 180 or 270" };
    v.refuse(title, label, help);
    None
}

fn offset_of(v: &Value<'_>, glass: (u16, u16), memory: (u16, u16)) -> Option<(u16, u16)> {
    let s = v.section()?;
    let left = |of: u16, taken: u16| 0..=i64::from(of - taken);
    let x = s.or("x", 0, |v| v.integer(left(memory.0, glass.0)));
    let y = s.or("y", 0, |v| v.integer(left(memory.1, glass.1)));
    Some((u16::try_from(x?).ok()?, u16::try_from(y?).ok()?))
}
