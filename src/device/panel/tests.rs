use super::fake::{Chip, FakeBus};
use super::*;
use crate::config::{LineName, PanelLine};

fn line(name: &str) -> PanelLine {
    PanelLine {
        chip: "io".into(),
        name: LineName::Name(name.into()),
        active_low: false,
    }
}

fn spi() -> PanelBus {
    PanelBus::Spi {
        device: "/dev/spidev0.0".into(),
        hz: 16_000_000,
        mode: 0,
        data_command: line(fake::DATA_COMMAND),
    }
}

fn i2c() -> PanelBus {
    PanelBus::I2c {
        device: "/dev/i2c-1".into(),
        address: 0x3c,
    }
}

fn settings(driver: PanelDriver, bus: PanelBus, glass: (u16, u16), rotation: Rotation) -> Settings {
    Settings {
        driver,
        bus,
        reset: Some(line("RESET")),
        backlight: (driver != PanelDriver::Ssd1306).then(|| line("LIGHT")),
        glass,
        rotation,
        mirror: false,
        offset: (0, 0),
        inverted: false,
        bgr: false,
    }
}

/// A picture without any symmetry, in colours that a panel can show exactly.
fn picture(settings: &Settings, seed: u32) -> Vec<u8> {
    let (width, height) = settings.size();
    let exact = |bits: u32, most: u32| ((bits % (most + 1) * 255 + most / 2) / most) as u8;
    let pixel = |x: u32, y: u32| match settings.is_mono() {
        true => {
            [if (x * 7 + y * y * 3 + x * y / 5 + seed) % 11 < 4 {
                255
            } else {
                0
            }; 3]
        }
        false => [
            exact(x / 3 + seed, 31),
            exact(y / 2 + x / 7, 63),
            exact(x * y / 97 + seed, 31),
        ],
    };
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    places.flat_map(|(x, y)| pixel(x, y)).collect()
}

fn every_rotation() -> [Rotation; 4] {
    [
        Rotation::None,
        Rotation::Quarter,
        Rotation::Half,
        Rotation::ThreeQuarters,
    ]
}

/// All panels that a configuration can name, turned in all ways.
fn every_panel() -> Vec<Settings> {
    let mut all = Vec::new();
    for rotation in every_rotation() {
        for (glass, offset) in [((240, 240), (0, 0)), ((240, 280), (0, 20)), ((240, 320), (0, 0))] {
            let usual = settings(PanelDriver::St7789, spi(), glass, rotation);
            all.push(Settings {
                inverted: true,
                offset,
                ..usual
            });
        }
        for mirror in [false, true] {
            let usual = settings(PanelDriver::Ili9341, spi(), (240, 320), rotation);
            all.push(Settings {
                mirror,
                bgr: true,
                ..usual
            });
        }
    }
    for rotation in [Rotation::None, Rotation::Half] {
        for bus in [i2c(), spi()] {
            all.push(settings(PanelDriver::Ssd1306, bus, (128, 64), rotation));
        }
    }
    all
}

fn open(settings: &Settings) -> (FakeBus, Panel<FakeBus>) {
    let bus = FakeBus::for_panel(settings);
    let panel = Panel::open(settings, bus.clone()).unwrap_or_else(|error| panic!("{error}"));
    (bus, panel)
}

fn seen(settings: &Settings, bus: &FakeBus) -> Vec<u8> {
    let (rgb, width, height) = bus.seen(settings.rotation).expect("the panel is on");
    assert_eq!((width, height), settings.size());
    rgb
}

#[test]
fn every_panel_shows_the_picture_whichever_way_it_is_mounted() {
    for settings in every_panel() {
        let (bus, panel) = open(&settings);
        let picture = picture(&settings, 1);
        panel.show(&picture).unwrap_or_else(|error| panic!("{error}"));
        assert!(seen(&settings, &bus) == picture, "{settings:?}");
    }
}

#[test]
fn settings_of_another_glass_show_another_picture() {
    let real = settings(PanelDriver::Ili9341, spi(), (240, 320), Rotation::Quarter);
    let wrong = |wrong: Settings| {
        let bus = FakeBus::for_panel(&real);
        let panel = Panel::open(&wrong, bus.clone()).unwrap_or_else(|error| panic!("{error}"));
        let picture = picture(&real, 1);
        panel.show(&picture).unwrap_or_else(|error| panic!("{error}"));
        assert!(seen(&real, &bus) != picture, "{wrong:?}");
    };
    wrong(Settings {
        mirror: true,
        ..real.clone()
    });
    wrong(Settings {
        inverted: true,
        ..real.clone()
    });
    wrong(Settings {
        bgr: true,
        ..real.clone()
    });
    wrong(Settings {
        rotation: Rotation::ThreeQuarters,
        ..real.clone()
    });
}

#[test]
fn what_changed_is_all_that_is_sent_and_makes_the_same_picture() {
    for settings in every_panel() {
        let (bus, panel) = open(&settings);
        let mut image = picture(&settings, 1);
        let before = bus.state().bytes;
        let mut panel = panel.show(&image).unwrap_or_else(|error| panic!("{error}"));
        let whole = bus.state().bytes - before;
        // A number in the middle counts on, and a dot in the corner blinks.
        let (width, height) = settings.size();
        for turn in 0..3 {
            for (x, y) in [(width / 2, height / 2), (width / 2 + 8, height / 2 + 6), (0, 0)] {
                let place = ((y * width + x) * 3) as usize;
                image[place..place + 3].fill(if turn % 2 == 0 { 255 } else { 0 });
            }
            let before = bus.state().bytes;
            panel = panel.show(&image).unwrap_or_else(|error| panic!("{error}"));
            let sent = bus.state().bytes - before;
            assert!(
                sent * 8 < whole,
                "{sent} of {whole} bytes for a few dots: {settings:?}"
            );
            assert!(seen(&settings, &bus) == image, "{settings:?}");
        }
        let before = bus.state().bytes;
        panel.show(&image).unwrap_or_else(|error| panic!("{error}"));
        let sent = bus.state().bytes - before;
        assert_eq!(sent, asked(&settings), "nothing changed, nothing of it sent");
    }
}

/// Bytes on the wire to hear whether somebody is there.
fn asked(settings: &Settings) -> u64 {
    match (settings.is_mono(), &settings.bus) {
        (false, _) => 0,
        (true, PanelBus::Spi { .. }) => 1,
        // The address, what follows, and that.
        (true, PanelBus::I2c { .. }) => 3,
    }
}

#[test]
fn a_panel_on_i2c_that_is_pulled_out_is_missed_though_nothing_changes() {
    let settings = settings(PanelDriver::Ssd1306, i2c(), (128, 64), Rotation::None);
    let (bus, panel) = open(&settings);
    let picture = picture(&settings, 5);
    let panel = panel.show(&picture).unwrap_or_else(|error| panic!("{error}"));
    let panel = panel.show(&picture).unwrap_or_else(|error| panic!("{error}"));
    let now = bus.state().bytes;
    bus.state().fails_from = Some(now);
    let Err(error) = panel.show(&picture) else {
        panic!("nobody is there");
    };
    assert!(error.to_string().contains("Remote I/O error"), "{error}");
}

#[test]
fn a_whole_picture_is_sent_in_little_more_than_its_bytes() {
    for settings in every_panel() {
        let (bus, panel) = open(&settings);
        let before = bus.state().bytes;
        panel
            .show(&picture(&settings, 1))
            .unwrap_or_else(|error| panic!("{error}"));
        let sent = bus.state().bytes - before;
        let pixels = u64::from(settings.glass.0) * u64::from(settings.glass.1);
        let least = if settings.is_mono() {
            pixels / 8
        } else {
            pixels * 2
        };
        assert!(
            (least..least + least / 16 + 16).contains(&sent),
            "{sent} bytes for {least}"
        );
    }
}

#[test]
fn the_light_goes_on_with_the_first_picture() {
    let settings = settings(PanelDriver::St7789, spi(), (240, 240), Rotation::None);
    let (bus, panel) = open(&settings);
    assert!(!bus.state().light, "noise is not for people");
    let panel = panel
        .show(&picture(&settings, 1))
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(bus.state().light);
    assert_eq!(bus.state().reset_pulses, 1);
    panel.begin_anew().unwrap_or_else(|error| panic!("{error}"));
    assert!(bus.state().light, "it stays on while the controller begins anew");
    assert_eq!(bus.state().reset_pulses, 2);
}

#[test]
fn a_panel_without_a_reset_line_starts_as_well() {
    for settings in every_panel() {
        let settings = Settings {
            reset: None,
            backlight: None,
            ..settings
        };
        let (bus, panel) = open(&settings);
        let picture = picture(&settings, 2);
        panel.show(&picture).unwrap_or_else(|error| panic!("{error}"));
        assert!(seen(&settings, &bus) == picture, "{settings:?}");
        assert_eq!(bus.state().reset_pulses, 0);
    }
}

#[test]
fn a_bus_that_fails_anywhere_is_an_error_and_the_panel_can_be_opened_again() {
    for settings in every_panel() {
        let picture = picture(&settings, 3);
        let (bus, panel) = open(&settings);
        panel.show(&picture).unwrap_or_else(|error| panic!("{error}"));
        let all = bus.state().bytes;
        // At the first byte, within the start, in the middle of the picture, at its end.
        for fails_from in [0, 5, 12, all / 2, all - 1] {
            let bus = FakeBus::for_panel(&settings);
            bus.state().fails_from = Some(fails_from);
            let shown = Panel::open(&settings, bus.clone()).and_then(|panel| panel.show(&picture));
            let Err(error) = shown else {
                panic!("{fails_from} of {all} bytes: {settings:?}");
            };
            let said = error.to_string();
            let device = settings.device().display().to_string();
            assert!(
                said.contains("Remote I/O error") && said.contains(&device),
                "{said}"
            );
            bus.state().fails_from = None;
            bus.lose_power();
            let panel = Panel::open(&settings, bus.clone()).and_then(|panel| panel.show(&picture));
            panel.unwrap_or_else(|error| panic!("{error}"));
            assert!(seen(&settings, &bus) == picture, "{settings:?}");
        }
    }
}

#[test]
fn a_panel_that_lost_its_power_in_silence_is_back_when_it_begins_anew() {
    for settings in every_panel() {
        let (bus, panel) = open(&settings);
        let first = picture(&settings, 4);
        let panel = panel.show(&first).unwrap_or_else(|error| panic!("{error}"));
        bus.lose_power();
        assert!(bus.seen(settings.rotation).is_none(), "nobody was told");
        let panel = panel.begin_anew().unwrap_or_else(|error| panic!("{error}"));
        panel.show(&first).unwrap_or_else(|error| panic!("{error}"));
        assert!(seen(&settings, &bus) == first, "{settings:?}");
    }
}

#[test]
fn an_address_where_nobody_answers_is_said_with_what_to_do() {
    let settings = settings(PanelDriver::Ssd1306, i2c(), (128, 64), Rotation::None);
    let bus = FakeBus::for_panel(&settings);
    bus.state().address = 0x3d;
    let Err(error) = Panel::open(&settings, bus.clone()) else {
        panic!("nobody is there");
    };
    assert!(error.to_string().contains("i2cdetect"), "{error}");
    assert!(matches!(bus.state().chip, Chip::Mono(_)));
}

#[test]
fn devices_that_are_not_there_are_said_with_what_to_do() {
    let bus = Linux;
    let missing = std::path::Path::new("/dev/elek-has-no-such-bus");
    let spi = bus.spi(missing, 16_000_000, 0).map(drop).unwrap_err().to_string();
    assert!(
        spi.contains("dtparam=spi=on") && spi.contains("elek-has-no-such-bus"),
        "{spi}"
    );
    let i2c = bus.i2c(missing).map(drop).unwrap_err().to_string();
    assert!(i2c.contains("dtparam=i2c_arm=on"), "{i2c}");
    // A file that is no bus.
    let null = std::path::Path::new("/dev/null");
    let spi = bus.spi(null, 16_000_000, 0).map(drop).unwrap_err().to_string();
    assert!(spi.contains("/dev/null"), "{spi}");
}
