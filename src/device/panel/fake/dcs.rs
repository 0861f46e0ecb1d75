//! ST7789 and ILI9341: the commands of the MIPI display command set that both have alike.

use super::Glass;

/// Columns and rows of the memory.
const COLUMNS: usize = 240;
const ROWS: usize = 320;
/// Waits that the data sheets ask for, in ns.
const AFTER_RESET: u64 = 5_000_000;
const RESET_TO_WAKE: u64 = 120_000_000;
const AFTER_WAKE: u64 = 5_000_000;

pub struct Dcs {
    glass: Glass,
    memory: Vec<u16>,
    is_awake: bool,
    is_on: bool,
    is_inverted: bool,
    address_mode: u8,
    pixel_format: u8,
    columns: (usize, usize),
    pages: (usize, usize),
    at: (usize, usize),
    command: u8,
    arguments: Vec<u8>,
    reset_at: Option<u64>,
    woken_at: Option<u64>,
}

impl Dcs {
    pub fn new(glass: Glass) -> Dcs {
        let mut chip = Dcs {
            glass,
            memory: Vec::new(),
            is_awake: false,
            is_on: false,
            is_inverted: false,
            address_mode: 0,
            pixel_format: 0x66,
            columns: (0, COLUMNS - 1),
            pages: (0, ROWS - 1),
            at: (0, 0),
            command: 0,
            arguments: Vec::new(),
            reset_at: None,
            woken_at: None,
        };
        chip.power_on();
        chip
    }

    /// Asleep, and noise in the memory.
    pub fn power_on(&mut self) {
        let noise = |n: usize| (n as u16).wrapping_mul(40_503) ^ 0x5a5a;
        self.memory = (0..COLUMNS * ROWS).map(noise).collect();
        self.forget_settings();
    }

    /// A reset keeps the memory.
    pub fn reset(&mut self, now: u64) {
        self.forget_settings();
        self.reset_at = Some(now);
        self.woken_at = None;
    }

    fn forget_settings(&mut self) {
        (self.is_awake, self.is_on, self.is_inverted) = (false, false, false);
        (self.address_mode, self.pixel_format) = (0, 0x66);
        (self.columns, self.pages) = ((0, COLUMNS - 1), (0, ROWS - 1));
    }

    pub fn command(&mut self, command: u8, now: u64) {
        let waited = |since: Option<u64>, least: u64| since.is_none_or(|since| now >= since + least);
        assert!(
            waited(self.reset_at, AFTER_RESET),
            "{command:#x} too soon after a reset"
        );
        assert!(
            waited(self.woken_at, AFTER_WAKE),
            "{command:#x} too soon after waking"
        );
        self.command = command;
        self.arguments.clear();
        match command {
            0x01 => self.reset(now),
            0x11 => {
                assert!(
                    waited(self.reset_at, RESET_TO_WAKE),
                    "woken too soon after a reset"
                );
                self.is_awake = true;
                self.woken_at = Some(now);
            }
            0x13 => {}
            0x20 => self.is_inverted = false,
            0x21 => self.is_inverted = true,
            0x28 => self.is_on = false,
            0x29 => self.is_on = true,
            // Writing begins at the window's corner.
            0x2c => self.at = (self.columns.0, self.pages.0),
            0x2a | 0x2b | 0x36 | 0x3a | 0xb4 => {}
            other => panic!("{other:#x} is no command that a panel should be sent"),
        }
    }

    pub fn data(&mut self, bytes: &[u8]) {
        self.arguments.extend_from_slice(bytes);
        if self.command == 0x2c {
            assert_eq!(self.pixel_format & 7, 5, "two bytes a pixel");
            let whole = self.arguments.len() / 2 * 2;
            let pixels: Vec<u8> = self.arguments.drain(..whole).collect();
            for pixel in pixels.as_chunks::<2>().0 {
                self.pixel(u16::from_be_bytes(*pixel));
            }
            return;
        }
        let range = |bytes: &[u8]| match *bytes {
            [a, b, c, d] => {
                let (from, to) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                assert!(from <= to, "a window from {from} to {to}");
                Some((usize::from(from), usize::from(to)))
            }
            _ => None,
        };
        match (self.command, &self.arguments[..]) {
            (0x2a, bytes) => self.columns = range(bytes).unwrap_or(self.columns),
            (0x2b, bytes) => self.pages = range(bytes).unwrap_or(self.pages),
            (0x36, [mode]) => self.address_mode = *mode,
            (0x3a, [format]) => self.pixel_format = *format,
            (0xb4, [_]) => {}
            (command, bytes) => panic!("{command:#x} has no arguments {bytes:?}"),
        }
    }

    /// The address counters count columns and pages of the window; the mode says how these lie in the
    /// memory: exchanged first, then each counted from its other end.
    fn pixel(&mut self, color: u16) {
        let (column, page) = self.at;
        let bit = |n: u8| self.address_mode >> n & 1 == 1;
        let (mut x, mut y) = if bit(5) { (page, column) } else { (column, page) };
        assert!(x < COLUMNS && y < ROWS, "column {x}, row {y} of the memory");
        if bit(6) {
            x = COLUMNS - 1 - x;
        }
        if bit(7) {
            y = ROWS - 1 - y;
        }
        self.memory[y * COLUMNS + x] = color;
        self.at = match (column == self.columns.1, page == self.pages.1) {
            (false, _) => (column + 1, page),
            (true, false) => (self.columns.0, page + 1),
            (true, true) => (self.columns.0, self.pages.0),
        };
    }

    /// The light that the glass lets through, as the panel came from its maker.
    pub fn seen(&self) -> Option<(Vec<[u8; 3]>, usize, usize)> {
        if !self.is_awake || !self.is_on {
            return None;
        }
        let Glass { size, offset, .. } = self.glass;
        let places = (0..size.1).flat_map(|y| (0..size.0).map(move |x| (x, y)));
        let pixels = places.map(|(x, y)| {
            let column = match self.glass.mirror {
                false => offset.0 + x,
                true => offset.0 + size.0 - 1 - x,
            };
            self.light_of(self.memory[(offset.1 + y) * COLUMNS + column])
        });
        Some((pixels.collect(), size.0, size.1))
    }

    fn light_of(&self, color: u16) -> [u8; 3] {
        let color = match self.is_inverted == self.glass.inverted {
            true => color,
            false => !color,
        };
        let scaled = |bits: u16, most: u32| ((u32::from(bits) * 255 + most / 2) / most) as u8;
        let first = scaled(color >> 11, 31);
        let green = scaled(color >> 5 & 63, 63);
        let last = scaled(color & 31, 31);
        match (self.address_mode >> 3 & 1 == 1) == self.glass.bgr {
            true => [first, green, last],
            false => [last, green, first],
        }
    }
}
