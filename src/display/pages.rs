//! Which page a small panel shows.
//!
//! A button turns the pages. What a person does not look at any more goes back to the first page by
//! itself, and an alarm that stops the belt brings the first page to the front at once. Texts that are
//! too long for one page are shown in turns.
//!
//! ```text
//!  Now ──press──▶ LastReject ──▶ Alarms ──▶ Counts ──▶ Times ──▶ Now
//!   ▲     (pages with nothing on them are left out)     │
//!   └──── 30 s without a press, or a new alarm that stops the belt
//! ```

use crate::station::event::AlarmKind;
use crate::status::Status;
use crate::units::{Instant, Micros};

/// Long enough to read the longest page twice.
const HOME: Micros = Micros::from_secs(30);
/// Long enough to read three short lines.
const TURN: Micros = Micros::from_secs(4);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The state, and what is most important in it.
    Now,
    LastReject,
    Alarms,
    Counts,
    Times,
}

impl Page {
    const ALL: [Page; 5] = [
        Page::Now,
        Page::LastReject,
        Page::Alarms,
        Page::Counts,
        Page::Times,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Page::Now => "now",
            Page::LastReject => "last reject",
            Page::Alarms => "alarms",
            Page::Counts => "counts",
            Page::Times => "times",
        }
    }

    fn has_something(self, status: &Status) -> bool {
        match self {
            Page::Now | Page::Counts | Page::Times => true,
            Page::LastReject => status.last_reject.is_some(),
            Page::Alarms => !status.alarms.is_empty(),
        }
    }
}

/// What is to be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    pub page: Page,
    /// How many turns the page has been shown for, from 0 on: the same page, further on in its text.
    pub turn: usize,
}

impl View {
    pub const FIRST: View = View {
        page: Page::Now,
        turn: 0,
    };

    /// Which of several parts of a text is shown now.
    pub fn of(self, parts: usize) -> usize {
        self.turn % parts.max(1)
    }
}

/// The page in front, and since when.
pub struct Pager {
    page: Page,
    since: Instant,
    /// Alarms that stop the belt and have been in front, with when they were raised.
    stops: Vec<(AlarmKind, Instant)>,
}

impl Pager {
    pub fn new(now: Instant) -> Pager {
        Pager {
            page: Page::Now,
            since: now,
            stops: Vec::new(),
        }
    }

    /// The button was pressed.
    pub fn press(&mut self, status: &Status, now: Instant) {
        let shown = self.view(status, now).page;
        let mut pages = Page::ALL.into_iter().cycle().skip_while(|page| *page != shown);
        pages.next();
        // `Now` always has something, so that this ends.
        self.show(
            pages.find(|page| page.has_something(status)).unwrap_or(Page::Now),
            now,
        );
    }

    pub fn view(&mut self, status: &Status, now: Instant) -> View {
        let stops = status.alarms.iter().filter(|alarm| alarm.stops);
        let stops: Vec<_> = stops.map(|alarm| (alarm.kind, alarm.since)).collect();
        let is_new = stops.iter().any(|stop| !self.stops.contains(stop));
        self.stops = stops;
        let is_left = self.page != Page::Now && now.since(self.since) >= HOME;
        if is_new || is_left || !self.page.has_something(status) {
            self.show(Page::Now, now);
        }
        let shown_for = now.since(self.since).get().max(0);
        View {
            page: self.page,
            turn: (shown_for / TURN.get()) as usize,
        }
    }

    fn show(&mut self, page: Page, now: Instant) {
        (self.page, self.since) = (page, now);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fresh, running, stopped};
    use super::*;

    fn at(ms: i64) -> Instant {
        Instant::from_micros(ms * 1_000)
    }

    #[test]
    fn a_button_turns_all_pages_and_comes_back() {
        let mut pager = Pager::new(at(0));
        let status = stopped();
        let mut pages = vec![pager.view(&status, at(0)).page];
        for press in 1..=5 {
            pager.press(&status, at(press * 500));
            pages.push(pager.view(&status, at(press * 500)).page);
        }
        assert_eq!(pages[..5], Page::ALL);
        assert_eq!(pages[5], Page::Now);
    }

    #[test]
    fn pages_without_anything_on_them_are_left_out() {
        let mut pager = Pager::new(at(0));
        let status = Status {
            alarms: Vec::new(),
            ..fresh()
        };
        pager.press(&status, at(500));
        assert_eq!(pager.view(&status, at(500)).page, Page::Counts);
        // The last alarm goes while its page is in front.
        let mut pager = Pager::new(at(0));
        pager.press(&fresh(), at(500));
        assert_eq!(pager.view(&fresh(), at(500)).page, Page::Alarms);
        assert_eq!(pager.view(&status, at(600)).page, Page::Now);
    }

    #[test]
    fn after_some_time_the_first_page_is_back() {
        let mut pager = Pager::new(at(0));
        let status = running();
        pager.press(&status, at(1_000));
        assert_eq!(pager.view(&status, at(30_900)).page, Page::LastReject);
        assert_eq!(pager.view(&status, at(31_000)).page, Page::Now);
        assert_eq!(pager.view(&status, at(31_000)).turn, 0, "and its text begins");
    }

    #[test]
    fn an_alarm_that_stops_the_belt_comes_to_the_front_once() {
        let mut pager = Pager::new(at(0));
        let running = running();
        let counts = |pager: &mut Pager, at: Instant| {
            pager.press(&running, at);
            pager.press(&running, at);
            assert_eq!(pager.view(&running, at).page, Page::Counts);
        };
        counts(&mut pager, at(1_000));
        // One that does not stop the belt does not.
        let mut alarm = stopped().alarms.remove(0);
        alarm.stops = false;
        let mut status = running.clone();
        status.alarms = vec![alarm.clone()];
        assert_eq!(pager.view(&status, at(2_000)).page, Page::Counts);
        alarm.stops = true;
        status.alarms = vec![alarm.clone()];
        assert_eq!(pager.view(&status, at(3_000)), View::FIRST);
        // A person may look at other pages meanwhile.
        pager.press(&status, at(4_000));
        assert_eq!(pager.view(&status, at(5_000)).page, Page::LastReject);
        // Raised again, it is another one.
        alarm.since = at(5_500);
        status.alarms = vec![alarm];
        assert_eq!(pager.view(&status, at(6_000)), View::FIRST);
    }

    #[test]
    fn long_texts_turn() {
        let mut pager = Pager::new(at(0));
        let turn = |pager: &mut Pager, ms| pager.view(&running(), at(ms)).turn;
        assert_eq!(turn(&mut pager, 3_999), 0);
        assert_eq!(turn(&mut pager, 4_000), 1);
        assert_eq!(turn(&mut pager, 12_000), 3);
        let view = View {
            page: Page::Now,
            turn: 3,
        };
        assert_eq!((view.of(2), view.of(0)), (1, 0));
    }
}
