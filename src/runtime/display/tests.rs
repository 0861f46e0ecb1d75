use super::*;
use crate::config::{LineName, Panel, PanelBus, PanelDriver, PanelLine, Rotation};
use crate::device::framebuffer;
use crate::device::panel::fake::{DATA_COMMAND, FakeBus};
use crate::display::pages::{Page, View};
use crate::display::tests::{compare, extreme, fresh, running, stopped};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use std::sync::Mutex;

#[test]
fn the_page_has_the_displays_size_or_a_whole_part_of_it() {
    let size = |width, height| page_size(&framebuffer::sample(width, height));
    assert_eq!(size(240, 240), Ok((240, 240)));
    assert_eq!(size(1_280, 800), Ok((1_280, 800)));
    assert_eq!(size(1_920, 1_080), Ok((960, 540)));
    assert_eq!(size(3_840, 2_160), Ok((1_280, 720)));
    assert_eq!(size(800, 1_280), Ok((800, 1_280)));
    assert_eq!(size(1_080, 1_920), Ok((540, 960)));
    assert!(size(320, 160).unwrap_err().contains("320 × 160"));
    assert!(size(128, 240).is_err());
}

fn panel(driver: PanelDriver, glass: (u16, u16), rotation: Rotation) -> Panel {
    let spi = PanelBus::Spi {
        device: "/dev/spidev0.0".into(),
        hz: 16_000_000,
        mode: 0,
        data_command: PanelLine {
            chip: "io".into(),
            name: LineName::Name(DATA_COMMAND.into()),
            active_low: false,
        },
    };
    let i2c = PanelBus::I2c {
        device: "/dev/i2c-1".into(),
        address: 0x3c,
    };
    Panel {
        driver,
        bus: if driver == PanelDriver::Ssd1306 { i2c } else { spi },
        reset: None,
        backlight: None,
        glass,
        rotation,
        mirror: driver == PanelDriver::Ili9341,
        offset: (0, 0),
        inverted: driver == PanelDriver::St7789,
        bgr: driver == PanelDriver::Ili9341,
    }
}

fn lying() -> Panel {
    panel(PanelDriver::Ili9341, (240, 320), Rotation::Quarter)
}

fn square() -> Panel {
    panel(PanelDriver::St7789, (240, 240), Rotation::ThreeQuarters)
}

fn upright() -> Panel {
    panel(PanelDriver::St7789, (240, 320), Rotation::Half)
}

fn mono() -> Panel {
    panel(PanelDriver::Ssd1306, (128, 64), Rotation::None)
}

fn at(seconds: i64) -> units::Instant {
    units::Instant::from_micros(seconds * 1_000_000)
}

fn view(page: Page, turn: usize) -> View {
    View { page, turn }
}

/// What the glass shows, as a picture file.
fn photo(bus: &FakeBus, settings: &Panel) -> Vec<u8> {
    let (rgb, width, height) = bus.seen(settings.rotation).expect("the panel is on");
    let mut file = Vec::new();
    PngEncoder::new(&mut file)
        .write_image(&rgb, width, height, ExtendedColorType::Rgb8)
        .unwrap();
    file
}

/// The panel shows something else first, so that what is compared was sent in parts.
fn golden(name: &str, settings: &Panel, status: &Status, view: View) {
    let bus = FakeBus::for_panel(settings);
    let mut panel = SmallPanel::new(settings.clone(), bus.clone());
    let other = View {
        page: Page::Times,
        turn: 0,
    };
    for (status, view) in [(&extreme(), other), (status, view)] {
        panel.show(status, view, at(1)).unwrap();
    }
    let (width, height) = settings.size();
    // Colours are rounded to 5 and 6 bits after glyphs were filled in f32: one step of them may differ.
    compare(&format!("{name}-{width}x{height}"), &photo(&bus, settings), 9);
}

const NOW: View = View::FIRST;

#[test]
fn running_on_small_panels_looks_as_committed() {
    for settings in [lying(), square(), upright(), mono()] {
        golden("panel-running", &settings, &running(), NOW);
    }
}

#[test]
fn stopped_on_small_panels_looks_as_committed() {
    for settings in [lying(), square(), upright(), mono()] {
        golden("panel-stopped", &settings, &stopped(), NOW);
    }
    for turn in 1..3 {
        golden(
            &format!("panel-stopped-{}", turn + 1),
            &mono(),
            &stopped(),
            view(Page::Now, turn),
        );
    }
}

#[test]
fn waiting_on_small_panels_looks_as_committed() {
    for settings in [lying(), square(), mono()] {
        golden("panel-waiting", &settings, &fresh(), NOW);
    }
}

#[test]
fn the_last_reject_on_small_panels_looks_as_committed() {
    for settings in [lying(), square(), upright(), mono()] {
        golden(
            "panel-last-reject",
            &settings,
            &running(),
            view(Page::LastReject, 0),
        );
    }
}

#[test]
fn further_pages_on_small_panels_look_as_committed() {
    for settings in [lying(), square(), mono()] {
        golden("panel-counts", &settings, &stopped(), view(Page::Counts, 0));
        golden("panel-times", &settings, &running(), view(Page::Times, 0));
        golden("panel-alarms", &settings, &stopped(), view(Page::Alarms, 1));
    }
}

#[test]
fn too_much_of_everything_on_small_panels_looks_as_committed() {
    for settings in [lying(), square(), mono()] {
        golden("panel-extreme", &settings, &extreme(), NOW);
    }
}

#[test]
fn each_second_costs_little_of_the_bus() {
    for (settings, most) in [(lying(), 3), (mono(), 6)] {
        let bus = FakeBus::for_panel(&settings);
        let mut panel = SmallPanel::new(settings.clone(), bus.clone());
        let mut status = running();
        panel.show(&status, NOW, at(1)).unwrap();
        let whole = bus.state().bytes;
        status.counts.passed += 10;
        status.parts_per_min += 1.0;
        status.at += units::Micros::from_secs(1);
        panel.show(&status, NOW, at(2)).unwrap();
        let part = bus.state().bytes - whole;
        let percent = part * 100 / whole;
        assert!(
            (1..=most).contains(&percent),
            "{part} of {whole} bytes, {percent} %"
        );
        panel.show(&status, NOW, at(3)).unwrap();
        // A monochrome one is asked whether it is there.
        let asked = if settings.is_mono() { 3 } else { 0 };
        let sent = bus.state().bytes - whole - part;
        assert_eq!(sent, asked, "nothing changed, nothing of it sent");
    }
}

#[test]
fn a_panel_that_went_away_is_shown_again_when_it_is_back() {
    for settings in [lying(), mono()] {
        let bus = FakeBus::for_panel(&settings);
        let mut panel = SmallPanel::new(settings.clone(), bus.clone());
        panel.show(&running(), NOW, at(1)).unwrap();
        let middle = bus.state().bytes + 100;
        bus.state().fails_from = Some(middle);
        let error = panel.show(&stopped(), NOW, at(2)).unwrap_err();
        assert!(error.contains("Remote I/O error"), "{error}");
        bus.state().is_missing = true;
        bus.lose_power();
        let error = panel.show(&stopped(), NOW, at(3)).unwrap_err();
        assert!(error.contains("cannot open"), "{error}");
        (bus.state().is_missing, bus.state().fails_from) = (false, None);
        panel.show(&stopped(), NOW, at(4)).unwrap();
        let (width, height) = settings.size();
        compare(
            &format!("panel-stopped-{width}x{height}"),
            &photo(&bus, &settings),
            9,
        );
        assert_eq!(bus.state().opened, 2);
    }
}

#[test]
fn a_panel_that_says_nothing_is_begun_anew_after_a_while() {
    let settings = lying();
    let bus = FakeBus::for_panel(&settings);
    let mut panel = SmallPanel::new(settings.clone(), bus.clone());
    panel.show(&running(), NOW, at(1)).unwrap();
    bus.lose_power();
    panel.show(&running(), NOW, at(600)).unwrap();
    assert!(bus.seen(settings.rotation).is_none(), "it could not tell");
    panel.show(&running(), NOW, at(601)).unwrap();
    compare("panel-running-320x240", &photo(&bus, &settings), 9);
    assert_eq!(bus.state().opened, 1, "the bus was never closed");
}

/// All that is shown, on nothing but a panel, and what the core was told of troubles.
fn shows(settings: &Panel, bus: &FakeBus) -> (Shows<FakeBus>, Arc<Mutex<Vec<bool>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let shows = Shows {
        picture: None,
        screen: None,
        panel: Some(SmallPanel::new(settings.clone(), bus.clone())),
        button: None,
        pager: Pager::new(at(0)),
        shown: None,
        failing: String::new(),
        trouble: Box::new(move |present| tell.lock().unwrap().push(present)),
    };
    (shows, told)
}

#[test]
fn a_press_turns_the_page_at_once_and_a_stop_turns_it_back() {
    let settings = lying();
    let bus = FakeBus::for_panel(&settings);
    let (mut shows, told) = shows(&settings, &bus);
    let looks_like = |name: &str| compare(&format!("{name}-320x240"), &photo(&bus, &settings), 9);
    shows.bring_up_to_date(running(), at(1));
    looks_like("panel-running");
    shows.turn_page(&running(), at(2));
    looks_like("panel-last-reject");
    shows.bring_up_to_date(running(), at(3));
    looks_like("panel-last-reject");
    shows.turn_page(&running(), at(4));
    shows.bring_up_to_date(stopped(), at(5));
    looks_like("panel-stopped");
    assert!(told.lock().unwrap().is_empty());
}

#[test]
fn a_lost_panel_is_told_once_and_taken_back() {
    let settings = mono();
    let bus = FakeBus::for_panel(&settings);
    let (mut shows, told) = shows(&settings, &bus);
    bus.state().is_missing = true;
    for second in 1..4 {
        shows.bring_up_to_date(running(), at(second));
        shows.turn_page(&running(), at(second));
    }
    assert_eq!(*told.lock().unwrap(), [true]);
    bus.state().is_missing = false;
    // Nothing is new but that it is back.
    shows.bring_up_to_date(running(), at(40));
    assert_eq!(*told.lock().unwrap(), [true, false]);
    compare("panel-running-128x64", &photo(&bus, &settings), 9);
}
