//! A small panel on I²C and the two buttons of a station: what the panel shows, what the buttons do, and what becomes of
//! the station when the panel fails.

#[path = "vm/cuse.rs"]
mod cuse;
mod vm;
// The controller that the unit tests of panels have, too.
#[path = "../src/device/panel/fake/ssd1306.rs"]
mod ssd1306;

use cuse::Bus;
use elek::display::Canvas;
use elek::display::pages::{Page, View};
use elek::station::event::{AlarmKind, Trouble};
use elek::status::{State, Status};
use ssd1306::Mono;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use vm::faults::goes_on;
use vm::gpio_sim::{GpioSim, Pull};
use vm::station::Station;
use vm::wait_until;

const BUS: u32 = 7;
const ADDRESS: u16 = 0x3c;
/// The chip of what is wired to the panel's board: the button that turns pages, and the controller's reset.
const CHIP: &str = "panel";
const CONFIG: &str = r#"
[display.panel]
driver = "ssd1306"
i2c = "/dev/i2c-7"
reset = { chip = "panel", name = "RESET" }
"#;
const BUTTON: &str = r#"
page = { chip = "panel", name = "PAGE", active = "low", bias = "pull_up" }
"#;
/// No text of these tests takes more turns than that.
const TURNS: usize = 4;
/// Between looks at the glass: comparing costs more than anything else here, and a page stays for a second.
const LOOK: Duration = Duration::from_millis(50);

/// The board with the glass and the button, on its wires.
struct Panel {
    glass: Arc<Mutex<Glass>>,
    bus: Option<Bus>,
    lines: GpioSim,
}

struct Glass {
    controller: Mono,
    /// It acknowledges what it is sent.
    answers: bool,
}

impl Panel {
    fn new() -> Panel {
        let lines = GpioSim::new(CHIP, &["PAGE", "RESET"]);
        let controller = Mono::new();
        let glass = Glass {
            controller,
            answers: true,
        };
        let mut panel = Panel {
            glass: Arc::new(Mutex::new(glass)),
            bus: None,
            lines,
        };
        panel.plug();
        panel
    }

    /// A station with this panel and no other display.
    fn station(&self) -> Station {
        Station::new(|text| text.replace("[station.lines]", &format!("[station.lines]{BUTTON}")) + CONFIG)
    }

    fn glass(&self) -> MutexGuard<'_, Glass> {
        self.glass
            .lock()
            .expect("the controller was told nothing that it should not be")
    }

    /// With power, which begins with noise and dark.
    fn plug(&mut self) {
        self.glass().controller = Mono::new();
        let glass = Arc::clone(&self.glass);
        self.bus = Some(Bus::new(BUS, move |address, bytes| {
            let mut glass = glass.lock().expect("only this thread tells it anything");
            if address != ADDRESS || !glass.answers {
                return Err(libc::EREMOTEIO);
            }
            glass.controller.message(bytes);
            Ok(())
        }));
    }

    fn unplug(&mut self) {
        self.bus = None;
    }

    /// A person presses the button that turns pages.
    fn press(&self) {
        self.lines.pull("PAGE", Pull::Down);
        std::thread::sleep(Duration::from_millis(60));
        self.lines.pull("PAGE", Pull::Up);
        std::thread::sleep(Duration::from_millis(60));
    }

    /// What a person sees; `None` while it is dark.
    fn seen(&self) -> Option<Vec<u8>> {
        Some(self.glass().controller.seen()?.0.concat())
    }

    /// Waits until this page of the station as it is now can be read on the glass, to the dot.
    fn wait_for(&self, page: Page, station: &Station) {
        let shown = |status: Status| {
            let seen = self.seen();
            (0..TURNS).any(|turn| seen == Some(drawn(&status, View { page, turn })))
        };
        wait_until(&format!("the page `{}`", page.title()), || {
            std::thread::sleep(LOOK);
            station.status().is_some_and(shown)
        });
    }

    /// Presses for one page after the other; what each looked like.
    fn turn_through(&self, pages: &[Page], station: &Station) -> Vec<Option<Vec<u8>>> {
        let turn = |page: &Page| {
            self.press();
            self.wait_for(*page, station);
            self.seen()
        };
        pages.iter().map(turn).collect()
    }
}

impl Drop for Panel {
    /// A failed test shows what was seen last.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let glass = self.glass.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some((pixels, width, _)) = glass.controller.seen() else {
            return eprintln!("--- the panel is dark");
        };
        for rows in pixels.chunks_exact(2 * width) {
            let dot = |x: usize| match (rows[x][0] > 0, rows[width + x][0] > 0) {
                (false, false) => ' ',
                (true, false) => '▀',
                (false, true) => '▄',
                (true, true) => '█',
            };
            eprintln!("{}", (0..width).map(dot).collect::<String>());
        }
    }
}

fn drawn(status: &Status, view: View) -> Vec<u8> {
    let mut canvas = Canvas::new(128, 64);
    let Ok(()) = elek::display::draw_mono(status, view, &mut canvas);
    canvas.rgb
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn one_button_turns_the_pages_of_the_panel_and_the_other_lets_the_belt_run() {
    let panel = Panel::new();
    // Nobody drives it yet, so that a level of high is the station's.
    panel.lines.pull("RESET", Pull::Down);
    let told = vm::run(vm::ELEK, &["probe"]);
    assert!(told.contains("/dev/i2c-7"), "{told}");

    let mut station = panel.station();
    station.start_outputs();
    station.start_run();
    panel.wait_for(Page::Now, &station);
    assert!(panel.lines.level("RESET"));
    let pages = [Page::Alarms, Page::Counts, Page::Times, Page::Now];
    let seen = panel.turn_through(&pages, &station);
    for (n, page) in seen.iter().enumerate() {
        assert!(!seen[..n].contains(page), "{:?} was seen before", pages[n]);
    }
    panel.turn_through(&pages[..2], &station);
    assert_eq!(station.line.world().permits, 0, "pages are all that it turns");
    assert_ne!(station.status().map(|status| status.state), Some(State::Running));

    station.acknowledge();
    panel.wait_for(Page::Counts, &station);
    panel.turn_through(&[Page::Times, Page::Now], &station);

    let ended = station.stop_run();
    assert!(ended.success(), "{ended}");
    assert!(!panel.lines.level("RESET"), "the line is free again");
}

fn has_failed(status: &Status) -> bool {
    let of_display = |kind: AlarmKind| kind == AlarmKind::Trouble(Trouble::Display);
    let mut alarms = status.alarms.iter();
    alarms.any(|alarm| of_display(alarm.kind) && alarm.present)
}

/// The alarm comes, and the belt runs on.
fn is_told(station: &mut Station, why: &str) {
    let status = station.wait_for("the alarm", has_failed);
    assert_eq!((status.state, status.permit), (State::Running, true));
    wait_until(why, || station.said("run").contains(why));
}

fn comes_back(panel: &Panel, station: &mut Station) {
    station.wait_for("the end of the alarm's cause", |status| !has_failed(status));
    panel.wait_for(Page::Now, station);
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn whatever_fails_of_the_panel_the_station_sorts_on_and_the_panel_comes_back() {
    let mut panel = Panel::new();
    let mut station = panel.station();
    station.start();
    panel.wait_for(Page::Now, &station);

    // It loses its power while nothing that it shows changes; parts are sorted, and it gets its power back.
    panel.glass().answers = false;
    is_told(&mut station, "i2cdetect");
    goes_on(&mut station, "gb");
    assert!(station.status().is_some_and(|status| has_failed(&status)));
    *panel.glass() = Glass {
        controller: Mono::new(),
        answers: true,
    };
    comes_back(&panel, &mut station);
    // What it shows of an alarm goes when a person has seen it, and the counts are there.
    station.press();
    let status = station.wait_for("the alarm to go", |status| status.alarms.is_empty());
    assert_eq!((status.counts.passed, status.counts.confirmed), (1, 1));
    panel.wait_for(Page::Now, &station);
    panel.turn_through(
        &[Page::LastReject, Page::Counts, Page::Times, Page::Now],
        &station,
    );

    // The bus goes, adapter and all.
    panel.unplug();
    is_told(&mut station, "cannot open the panel's bus /dev/i2c-7");
    panel.plug();
    comes_back(&panel, &mut station);

    // The button goes.
    panel.lines.unplug();
    is_told(&mut station, "the button that turns the pages cannot be read");
    panel.lines.plug();
    comes_back(&panel, &mut station);
    panel.turn_through(&[Page::LastReject], &station);
    station.assert_nothing_lost();
}
