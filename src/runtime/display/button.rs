//! The button that turns the pages of the panel. It belongs to the display thread: whatever is wrong with
//! it must not stop a belt, as trouble with the station's own inputs does.

use crate::config::InputLine;
use crate::device::clock;
use crate::device::gpio::edges::{EdgeLine, Edges};
use crate::units::{Instant, Micros};
use std::time::Duration;

/// Contacts bounce for some ms, and nobody presses so fast: a press comes after so much quiet.
const QUIET: Micros = Micros::from_millis(30);
/// How often a line that was lost is looked for.
const RETRY: Micros = Micros::from_secs(1);
/// Rest after edges, so that a line that flickers does not keep the thread busy.
const REST: Duration = Duration::from_millis(5);

pub struct Button {
    wanted: InputLine,
    line: Option<EdgeLine>,
    presses: Presses,
    next_try: Instant,
    /// Why it cannot be used.
    pub failing: Option<String>,
}

impl Button {
    pub fn new(wanted: InputLine) -> Button {
        Button {
            wanted,
            line: None,
            presses: Presses::default(),
            next_try: Instant::ZERO,
            failing: None,
        }
    }

    /// Waits for a press, at most this long.
    pub fn is_pressed_within(&mut self, patience: Duration) -> bool {
        self.open();
        let Some(line) = &mut self.line else {
            std::thread::sleep(patience);
            return false;
        };
        let mut edges = Edges::new();
        let read = match clock::wait_readable(&*line, patience) {
            // A chip that is gone is readable on some kernels and silent on others.
            Ok(false) => line.is_active().map(drop),
            Ok(true) => line.read(&mut edges),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = read {
            self.fail(error.to_string());
            return false;
        }
        let count = edges
            .into_iter()
            .filter(|edge| self.presses.edge(edge.active, edge.at))
            .count();
        if count == 0 && clock::now().since(self.presses.last) < QUIET {
            std::thread::sleep(REST);
        }
        count > 0
    }

    fn open(&mut self) {
        let now = clock::now();
        if self.line.is_some() || now < self.next_try {
            return;
        }
        self.next_try = now + RETRY;
        match EdgeLine::open(&self.wanted) {
            Ok(line) => {
                self.line = Some(line);
                self.failing = None;
            }
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn fail(&mut self, why: String) {
        self.line = None;
        self.failing = Some(format!("the button that turns the pages cannot be read: {why}"));
    }
}

/// Tells presses from the bouncing of contacts.
struct Presses {
    /// When the last edge was, of either direction.
    last: Instant,
}

impl Default for Presses {
    fn default() -> Self {
        Presses {
            last: Instant::ZERO - QUIET,
        }
    }
}

impl Presses {
    fn edge(&mut self, active: bool, at: Instant) -> bool {
        let quiet = at.since(self.last) >= QUIET;
        self.last = at;
        active && quiet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Bias, LineName};

    #[test]
    fn a_press_that_bounces_is_one() {
        let mut presses = Presses::default();
        let mut count = |edges: &[(bool, i64)]| {
            let at = |ms: i64| Instant::from_micros(ms * 1_000);
            edges
                .iter()
                .filter(|(active, ms)| presses.edge(*active, at(*ms)))
                .count()
        };
        let bouncing = [
            (true, 100),
            (false, 101),
            (true, 103),
            (false, 260),
            (true, 262),
            (false, 263),
        ];
        assert_eq!(count(&bouncing), 1);
        assert_eq!(count(&[(true, 400), (false, 480), (true, 560)]), 2);
    }

    #[test]
    fn a_line_that_is_not_there_is_said_and_costs_no_time_of_the_processor() {
        let mut button = Button::new(InputLine {
            chip: "elek-has-no-such-chip".into(),
            name: LineName::Offset(0),
            active_low: true,
            bias: Bias::PullUp,
        });
        assert!(!button.is_pressed_within(Duration::from_millis(1)));
        let said = button.failing.as_deref().expect("it cannot be read");
        assert!(said.contains("turns the pages"), "{said}");
    }
}
