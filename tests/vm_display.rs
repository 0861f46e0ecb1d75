//! The display on a framebuffer of the kernel, which lies in memory and can be read back: vfb, on the arm64 board bochs.

mod vm;

use elek::control::Client;
use elek::device::framebuffer::{Console, Framebuffer, FramebufferError};
use elek::display::Canvas;
use elek::station::event::Counts;
use elek::station::event::{AlarmKind, Trouble};
use elek::status::{State, Status};
use elek::units::{Instant, Micros};
use std::path::Path;
use std::process::{Child, Command};
use vm::screen::{self, DEVICE, Vfb, furthest, screenshot};

fn status() -> Status {
    Status {
        station: "L3-REJ-01".into(),
        recipe: "cap-28mm".into(),
        state: State::Running,
        permit: true,
        counts: Counts {
            seen: 1_234,
            passed: 1_200,
            confirmed: 34,
            ..Counts::default()
        },
        unjudged: 0,
        parts_per_min: 310.0,
        reject_rate: 0.03,
        belt_mm_s: 600.0,
        last: None,
        last_reject: None,
        margin: None,
        outputs: None,
        alarms: Vec::new(),
        passed_verified: true,
        uptime: Micros::from_secs(4_000),
        at: Instant::from_micros(1),
    }
}

fn drawn(width: u32, height: u32) -> Canvas {
    let mut canvas = Canvas::new(width, height);
    let Ok(()) = elek::display::draw(&status(), &mut canvas);
    canvas
}

/// The framebuffer as it is now, with the page of this size on it.
fn shown(width: u32, height: u32) -> (Framebuffer, Canvas) {
    let page = drawn(width, height);
    let mut framebuffer = Framebuffer::open(Path::new(DEVICE)).expect("opens");
    framebuffer.show(&page.rgb, width, height).expect("shows");
    (framebuffer, page)
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn the_framebuffer_shows_what_the_picture_file_shows() {
    let vfb = Vfb::load();
    // Its cursor would blink over the picture, now and then between drawing and looking.
    let _silenced = Console::silence(Path::new("/dev/tty0")).expect("the kernel has a text console");
    for &(width, height, bits, off) in screen::MODES {
        vfb.mode(width, height, bits);
        let mut framebuffer = Framebuffer::open(Path::new(DEVICE)).unwrap_or_else(|error| panic!("{error}"));
        let layout = framebuffer.layout().clone();
        assert_eq!(
            (layout.width, layout.height, layout.bits_per_pixel),
            (width, height, bits)
        );
        // Both orders there are: the board's blue lies lowest.
        assert_eq!(layout.red.offset < layout.blue.offset, !screen::BOARD);
        let page = drawn(width, height);
        framebuffer
            .show(&page.rgb, width, height)
            .unwrap_or_else(|error| panic!("{error}"));
        let far = furthest(&screenshot(), &page);
        println!("{width} × {height}, {bits} bits: off by {far}");
        assert!(far <= off, "{width} × {height}, {bits} bits: off by {far}");
    }
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
#[cfg(not(target_arch = "aarch64"))] // The board's display has no palette.
fn a_framebuffer_with_a_palette_is_refused_in_words() {
    let vfb = Vfb::load();
    vfb.mode(640, 480, 8);
    let error = Framebuffer::open(Path::new(DEVICE))
        .expect_err("refused")
        .to_string();
    assert!(error.contains("8 bits") && error.contains("video="), "{error}");
    let told = vm::run(vm::ELEK, &["probe"]);
    assert!(told.contains("! /dev/fb0 cannot be drawn on"), "{told}");
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
#[cfg(not(target_arch = "aarch64"))] // The board's display has one mode.
fn a_framebuffer_that_changes_its_mode_is_an_error_and_nothing_worse() {
    let vfb = Vfb::load();
    vfb.mode(320, 240, 32);
    let (mut framebuffer, page) = shown(320, 240);
    vfb.mode(480, 320, 32);
    let error = framebuffer
        .show(&page.rgb, 320, 240)
        .expect_err("the mode is another");
    assert!(matches!(error, FramebufferError::Write { .. }), "{error}");
    drop(framebuffer);
    shown(480, 320);
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn a_framebuffer_that_goes_away_is_an_error_and_nothing_worse() {
    let vfb = Vfb::load();
    vfb.mode(480, 320, 32);
    let (mut framebuffer, page) = shown(480, 320);
    let plug_in = vfb.unplug();
    let error = framebuffer.show(&page.rgb, 480, 320).expect_err("it is gone");
    println!("{error}");
    drop(framebuffer);
    assert!(matches!(
        Framebuffer::open(Path::new(DEVICE)),
        Err(FramebufferError::Open { .. })
    ));
    plug_in();
    // It comes back in the mode that it starts with.
    vfb.mode(480, 320, 32);
    shown(480, 320);
}

/// The built-in line, drawn on the framebuffer and into a file of the same size.
struct Station {
    child: Child,
    folder: tempfile::TempDir,
}

impl Station {
    fn start() -> Station {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config: toml::Table = vm::run(vm::ELEK, &["config", "default"])
            .parse()
            .expect("the default");
        let display = format!(
            "framebuffer = \"{DEVICE}\"\nwidth = 480\nheight = 320\npng = {:?}",
            folder.path().join("display.png")
        );
        config["display"] = display.parse::<toml::Table>().expect("a table").into();
        config["record"]["path"] = folder.path().join("record").display().to_string().into();
        let file = folder.path().join("station.toml");
        vm::write(&file, &config.to_string());
        let child = Command::new(vm::ELEK)
            .arg("run")
            .arg("--config")
            .arg(file)
            .spawn()
            .expect("elek starts");
        Station { child, folder }
    }

    /// Whether the alarm of the display is there, as `elek status` sees it.
    fn alarm(&self) -> Option<bool> {
        let client = Client::find(Some(&self.folder.path().join("record"))).ok()?;
        let status = client.status().ok()?;
        let of_display = |kind: AlarmKind| kind == AlarmKind::Trouble(Trouble::Display);
        Some(
            status
                .alarms
                .iter()
                .any(|alarm| of_display(alarm.kind) && alarm.present),
        )
    }

    fn wait_for_alarm(&self, present: bool) {
        vm::wait_until(&format!("alarm: {present}"), || self.alarm() == Some(present));
    }

    fn stop(&mut self) {
        vm::run("kill", &["-TERM", &self.child.id().to_string()]);
        assert!(self.child.wait().expect("it ends").success());
    }

    fn picture(&self) -> Canvas {
        screen::picture(&self.folder.path().join("display.png"))
    }
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn the_station_draws_on_it_says_when_it_cannot_and_draws_again() {
    let vfb = Vfb::load();
    vfb.mode(480, 320, 32);
    let mut station = Station::start();
    station.wait_for_alarm(false);
    vm::wait_until("a picture", || screenshot().rgb.iter().any(|colour| *colour > 0));
    let plug_in = vfb.unplug();
    station.wait_for_alarm(true);
    plug_in();
    vfb.mode(480, 320, 32);
    station.wait_for_alarm(false);
    // Both are drawn one after the other, once a second.
    vm::wait_until("the same page on both", || {
        furthest(&screenshot(), &station.picture()) == 0
    });
    station.stop();
}
