//! SSD1306 with 128 × 64 dots. The tests in the virtual machine put it behind an I²C bus of the kernel, so that it
//! knows nothing of elek.

const COLUMNS: usize = 128;
const PAGES: usize = 8;

pub struct Mono {
    /// A byte is eight dots, one below the other.
    memory: Vec<u8>,
    is_on: bool,
    is_pumped: bool,
    is_inverted: bool,
    /// Column 127 is the first on the left of the glass.
    segments_turned: bool,
    rows_turned: bool,
    is_horizontal: bool,
    multiplex: u8,
    pins: u8,
    columns: (usize, usize),
    pages: (usize, usize),
    at: (usize, usize),
}

impl Mono {
    pub fn new() -> Mono {
        Mono {
            memory: (0..COLUMNS * PAGES)
                .map(|n| (n as u8).wrapping_mul(167) ^ 0x5a)
                .collect(),
            is_on: false,
            is_pumped: false,
            is_inverted: false,
            segments_turned: false,
            rows_turned: false,
            is_horizontal: false,
            multiplex: 63,
            pins: 0x12,
            columns: (0, COLUMNS - 1),
            pages: (0, PAGES - 1),
            at: (0, 0),
        }
    }

    /// On I²C the first byte says what follows.
    pub fn message(&mut self, bytes: &[u8]) {
        match bytes {
            [0x00, commands @ ..] => self.commands(commands),
            [0x40, data @ ..] => self.data(data),
            other => panic!("{other:?} is neither commands nor data"),
        }
    }

    pub fn commands(&mut self, mut bytes: &[u8]) {
        while let Some((command, rest)) = bytes.split_first() {
            bytes = match (command, rest) {
                (0x20, [mode, rest @ ..]) => {
                    self.is_horizontal = *mode == 0;
                    rest
                }
                (0x21, [from, to, rest @ ..]) => {
                    assert!(from <= to && usize::from(*to) < COLUMNS, "columns {from} to {to}");
                    self.columns = (usize::from(*from), usize::from(*to));
                    self.at.0 = self.columns.0;
                    rest
                }
                (0x22, [from, to, rest @ ..]) => {
                    assert!(from <= to && usize::from(*to) < PAGES, "pages {from} to {to}");
                    self.pages = (usize::from(*from), usize::from(*to));
                    self.at.1 = self.pages.0;
                    rest
                }
                (0x8d, [pump, rest @ ..]) => {
                    self.is_pumped = pump & 4 != 0;
                    rest
                }
                (0xa8, [multiplex, rest @ ..]) => {
                    self.multiplex = *multiplex;
                    rest
                }
                (0xd3, [offset, rest @ ..]) => {
                    assert_eq!(*offset, 0, "the glass begins with the memory");
                    rest
                }
                (0xda, [pins, rest @ ..]) => {
                    self.pins = *pins;
                    rest
                }
                // Contrast, clock, precharge, level of the dark.
                (0x81 | 0xd5 | 0xd9 | 0xdb, [_, rest @ ..]) => rest,
                (0x40 | 0x2e | 0xa4 | 0xe3, rest) => rest,
                (0xa0 | 0xa1, rest) => {
                    self.segments_turned = *command == 0xa1;
                    rest
                }
                (0xa6 | 0xa7, rest) => {
                    self.is_inverted = *command == 0xa7;
                    rest
                }
                (0xae | 0xaf, rest) => {
                    self.is_on = *command == 0xaf;
                    rest
                }
                (0xc0 | 0xc8, rest) => {
                    self.rows_turned = *command == 0xc8;
                    rest
                }
                (other, rest) => panic!("{other:#x} {rest:?} is no command that a panel should be sent"),
            };
        }
    }

    pub fn data(&mut self, bytes: &[u8]) {
        assert!(self.is_horizontal, "the window is filled row by row");
        for byte in bytes {
            let (column, page) = self.at;
            self.memory[page * COLUMNS + column] = *byte;
            self.at = match (column == self.columns.1, page == self.pages.1) {
                (false, _) => (column + 1, page),
                (true, false) => (self.columns.0, page + 1),
                (true, true) => (self.columns.0, self.pages.0),
            };
        }
    }

    /// Glass is bonded so that it is upright with both directions turned.
    pub fn seen(&self) -> Option<(Vec<[u8; 3]>, usize, usize)> {
        if !self.is_on || !self.is_pumped || self.multiplex != 63 || self.pins != 0x12 {
            return None;
        }
        let turned = |turned: bool, place: usize, last: usize| if turned { place } else { last - place };
        let places = (0..PAGES * 8).flat_map(|y| (0..COLUMNS).map(move |x| (x, y)));
        let pixels = places.map(|(x, y)| {
            let x = turned(self.segments_turned, x, COLUMNS - 1);
            let y = turned(self.rows_turned, y, PAGES * 8 - 1);
            let is_set = self.memory[y / 8 * COLUMNS + x] >> (y % 8) & 1 == 1;
            [if is_set != self.is_inverted { 255 } else { 0 }; 3]
        });
        Some((pixels.collect(), COLUMNS, PAGES * 8))
    }
}
