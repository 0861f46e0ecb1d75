//! Cameras against the kernel's own simulated one (vivid): every format, refusals, controls, faults.

mod vm;

use elek::config::{ControlSetting, ControlValue, PictureFormat, V4l2Source};
use elek::device::camera::{CameraError, Capture, Damage, StampClock, StampPoint, V4l2Camera, describe};
use elek::device::clock;
use elek::units::Instant;
use elek::vision::decode::to_rgb;
use elek::vision::frame::{Frame, PixelFormat};
use std::path::{Path, PathBuf};
use std::time::Duration;
use v4l::control::{Control, Value};

const WIDTH: u32 = 640;
const HEIGHT: u32 = 360;
/// Longer than a frame at 10 frames/s, even here.
const TURN: Duration = Duration::from_secs(1);
/// The bars of vivid's pattern, left to right, as RGB of all or nothing.
const BARS: [[u8; 3]; 8] = [
    [255, 255, 255],
    [255, 255, 0],
    [0, 255, 255],
    [0, 255, 0],
    [255, 0, 255],
    [255, 0, 0],
    [0, 0, 255],
    [0, 0, 0],
];

/// vivid, loaded with one webcam and unloaded again.
struct Vivid {
    device: PathBuf,
}

impl Vivid {
    fn load() -> Vivid {
        Vivid::load_with(&[])
    }

    fn load_with(options: &[&str]) -> Vivid {
        let webcam = [
            "n_devs=1",
            "num_inputs=1",
            "input_types=0x00",
            "node_types=0x1",
            "no_error_inj=0",
        ];
        vm::modprobe("vivid", &[&webcam, options].concat());
        let vivid = Vivid {
            device: "/dev/video0".into(),
        };
        vm::wait_until("the camera", || vivid.device.exists());
        // Large letters would lie over the pattern, and stamps of the end of a frame lie in the future.
        vivid.set("OSD Text Mode", 2);
        vivid.set("Timestamp Source", 1);
        vivid
    }

    fn id(&self, name: &str) -> u32 {
        let description = describe::describe(&self.device).expect("vivid can be asked");
        let control = description.controls.iter().find(|control| control.name == name);
        control
            .unwrap_or_else(|| panic!("vivid has no {name:?}: {:#?}", description.controls))
            .id
    }

    /// As another program would.
    fn set(&self, name: &str, value: i64) {
        let id = self.id(name);
        let device = v4l::Device::with_path(&self.device).expect("vivid can be opened twice");
        device
            .set_control(Control {
                id,
                value: Value::Integer(value),
            })
            .unwrap_or_else(|error| panic!("{name} = {value}: {error}"));
    }

    fn get(&self, name: &str) -> Option<i32> {
        let description = describe::describe(&self.device).expect("vivid can be asked");
        let control = description.controls.iter().find(|control| control.name == name);
        control.expect("vivid has it").value
    }

    /// By its name in the menu of test patterns.
    fn show(&self, pattern: &str) {
        let mut source = source(PixelFormat::Yuyv);
        source
            .controls
            .push(setting("Test Pattern", ControlValue::Word(pattern.into())));
        drop(V4l2Camera::open(&source).expect("a pattern"));
    }
}

impl Drop for Vivid {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            vm::unload("vivid");
        }
    }
}

fn setting(name: &str, value: ControlValue) -> ControlSetting {
    ControlSetting {
        name: name.into(),
        value,
    }
}

fn source(pixels: PixelFormat) -> V4l2Source {
    V4l2Source {
        device: "/dev/video0".into(),
        format: PictureFormat {
            pixels,
            width: WIDTH,
            height: HEIGHT,
            fps_milli: 10_000,
        },
        exposure_us: 1_000,
        // vivid has no control for it.
        set_exposure: false,
        gain: None,
        power_line: None,
        controls: Vec::new(),
    }
}

fn frame() -> Frame {
    Frame::new(PixelFormat::Grey, 0, 0, Vec::new())
}

/// The next picture, whatever comes before it.
fn next(camera: &mut V4l2Camera, frame: &mut Frame) {
    vm::wait_until("a picture", || {
        camera.next_into(TURN, frame).expect("the camera delivers") == Capture::Frame
    });
}

/// What the camera says in the end, pictures left aside.
fn error_of(camera: &mut V4l2Camera) -> CameraError {
    let mut found = None;
    vm::wait_until("an error", || {
        found = camera.next_into(TURN, &mut frame()).err();
        found.is_some()
    });
    found.expect("found")
}

/// How far the middles of the bars are from what they should be, at most. `at` gives the colour of a bar.
fn worst(expected: impl Fn(usize) -> [u8; 3], at: impl Fn(usize) -> [u8; 3]) -> u8 {
    let far = |n: usize| {
        let (expected, got) = (expected(n), at(n));
        (0..3).map(|c| expected[c].abs_diff(got[c])).max().unwrap_or(0)
    };
    (0..8).map(far).max().unwrap_or(0)
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn every_format_that_is_offered_and_read_shows_the_right_colours() {
    let vivid = Vivid::load();
    let offered = describe::describe(&vivid.device)
        .expect("vivid can be asked")
        .formats;
    let readable: Vec<PixelFormat> = offered
        .iter()
        .filter(|format| format.readable)
        .filter_map(|format| PixelFormat::from_name(&format.fourcc))
        .collect();
    // All that a configuration can ask for, except what vivid cannot do.
    let missing: Vec<_> = PixelFormat::ALL
        .iter()
        .filter(|pixels| !readable.contains(pixels))
        .collect();
    assert_eq!(missing, [&PixelFormat::Mjpg]);
    for (pattern, upright) in [("100% Colorbar", true), ("Horizontal 100% Colorbar", false)] {
        vivid.show(pattern);
        for &pixels in &readable {
            let mut camera = V4l2Camera::open(&source(pixels)).unwrap_or_else(|error| panic!("{error}"));
            let mut frame = frame();
            next(&mut camera, &mut frame);
            assert_eq!((frame.format, frame.width, frame.height), (pixels, WIDTH, HEIGHT));
            frame.check().unwrap_or_else(|error| panic!("{pixels}: {error}"));
            let rgb = to_rgb(&frame).unwrap_or_else(|error| panic!("{pixels}: {error}"));
            let at = |n: usize| {
                let (n, eighth) = (n as u32, |side: u32| side / 8);
                let (x, y) = if upright {
                    (n * eighth(WIDTH) + eighth(WIDTH) / 2, HEIGHT / 2)
                } else {
                    (WIDTH / 2, n * eighth(HEIGHT) + eighth(HEIGHT) / 2)
                };
                let place = (y * WIDTH + x) as usize * 3;
                [rgb[place], rgb[place + 1], rgb[place + 2]]
            };
            let grey = matches!(pixels, PixelFormat::Grey | PixelFormat::Y10 | PixelFormat::Y16);
            let expected = |n: usize| {
                let [r, g, b] = BARS[n].map(f64::from);
                if grey {
                    // vivid makes grey of a colour by BT.709, in the full range.
                    let luma = 0.2126 * r + 0.7152 * g + 0.0722 * b;
                    [luma.round() as u8; 3]
                } else {
                    BARS[n]
                }
            };
            let far = worst(expected, at);
            println!(
                "{pattern}, {pixels}: stride {}, {} bytes, off by {far}",
                frame.stride,
                frame.bytes.len()
            );
            assert!(
                far <= 3,
                "{pattern}, {pixels}: off by {far}: {:?}",
                (0..8).map(at).collect::<Vec<_>>()
            );
        }
    }
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn what_the_camera_gives_instead_is_refused_with_what_it_offers() {
    let vivid = Vivid::load();
    let refused = |source: &V4l2Source| {
        let error = V4l2Camera::open(source).expect_err("refused");
        assert!(matches!(error, CameraError::Refused { .. }), "{error}");
        println!("{error}");
        error.to_string()
    };
    let jpeg = refused(&source(PixelFormat::Mjpg));
    assert!(
        jpeg.contains("gives YUYV 640 × 360, asked for was MJPG 640 × 360"),
        "{jpeg}"
    );
    assert!(jpeg.contains("GREY") && jpeg.contains("RGB3"), "{jpeg}");
    let mut odd = source(PixelFormat::Grey);
    odd.format.width = 600;
    let size = refused(&odd);
    assert!(
        size.contains("asked for was GREY 600 × 360") && size.contains("1280 × 720, "),
        "{size}"
    );
    let mut fast = source(PixelFormat::Grey);
    fast.format.fps_milli = 1_000_000;
    let rate = refused(&fast);
    assert!(
        rate.contains("gives 120 frames/s, asked for was") && rate.contains("640 × 360 at 120, 60"),
        "{rate}"
    );
    // A padded or left over stride of one format must not get into the next.
    for pixels in [
        PixelFormat::Rgb3,
        PixelFormat::Grey,
        PixelFormat::Yuyv,
        PixelFormat::Nv12,
    ] {
        let mut camera = V4l2Camera::open(&source(pixels)).expect("opens");
        let mut frame = frame();
        next(&mut camera, &mut frame);
        assert_eq!(frame.stride, pixels.row_bytes(WIDTH), "{pixels}");
    }
    drop(vivid);
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn controls_are_set_and_what_cannot_be_is_said() {
    let vivid = Vivid::load();
    vivid.set("Gain, Automatic", 1);
    let mut wanted = source(PixelFormat::Grey);
    wanted.gain = Some(77);
    wanted.controls = vec![
        setting("brightness", ControlValue::Number(200)),
        setting("Horizontal Flip", ControlValue::Flag(true)),
        setting("0x00980901", ControlValue::Number(99)),
    ];
    drop(V4l2Camera::open(&wanted).unwrap_or_else(|error| panic!("{error}")));
    let got: Vec<_> = [
        "Gain, Automatic",
        "Gain",
        "Brightness",
        "Horizontal Flip",
        "Contrast",
    ]
    .map(|name| vivid.get(name))
    .into();
    assert_eq!(got, [Some(0), Some(77), Some(200), Some(1), Some(99)]);
    let said = |change: &dyn Fn(&mut V4l2Source)| {
        let mut source = source(PixelFormat::Grey);
        change(&mut source);
        let error = V4l2Camera::open(&source).expect_err("refused");
        println!("{error}");
        error.to_string()
    };
    assert!(said(&|s| s.set_exposure = true).contains("set_exposure = false"));
    assert!(said(&|s| s.gain = Some(100_000)).contains("`Gain` cannot be 100000: it takes 0 to 255"));
    let named = |name: &'static str, value: ControlValue| {
        said(&move |s| s.controls.push(setting(name, value.clone())))
    };
    assert!(named("Contrst", ControlValue::Number(1)).contains("Did you mean `Contrast`?"));
    assert!(named("Contrast", ControlValue::Number(256)).contains("0 to 255"));
    assert!(named("Test Pattern", ControlValue::Word("plaid".into())).contains("100% Red"));
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn an_automatic_gain_that_overrides_is_noticed() {
    let vivid = Vivid::load();
    let mut wanted = source(PixelFormat::Grey);
    wanted.gain = Some(77);
    // Written by hand after the switch that elek turns off by itself.
    wanted.controls = vec![setting("Gain, Automatic", ControlValue::Flag(true))];
    let error = V4l2Camera::open(&wanted).expect_err("refused").to_string();
    assert!(error.contains("`Gain"), "{error}");
    // Left alone, it is at least said.
    vivid.set("Gain, Automatic", 1);
    let camera = V4l2Camera::open(&source(PixelFormat::Grey)).expect("opens");
    let notes = camera.about().notes.join("\n");
    assert!(
        notes.contains("gain is automatic") && notes.contains("/dev/v4l/by-path"),
        "{notes}"
    );
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn pictures_are_stamped_in_the_past_and_counted() {
    let vivid = Vivid::load();
    let mut camera = V4l2Camera::open(&source(PixelFormat::Grey)).expect("opens");
    let (mut last, mut frame) = (None::<(Instant, u32)>, frame());
    for _ in 0..10 {
        next(&mut camera, &mut frame);
        assert!(frame.mid_exposure <= clock::now());
        if let Some((stamp, sequence)) = last {
            assert!(frame.mid_exposure > stamp);
            assert!(frame.sequence.wrapping_sub(sequence) >= 1);
        }
        last = Some((frame.mid_exposure, frame.sequence));
    }
    assert_eq!(camera.stamping().clock, StampClock::Monotonic);
    assert_eq!(camera.stamping().point, StampPoint::StartOfExposure);
    assert!(
        camera.about().words().contains("vivid"),
        "{}",
        camera.about().words()
    );
    drop(camera);
    let told = describe::describe(&vivid.device)
        .expect("vivid can be asked")
        .stamps
        .expect("not in use");
    assert_eq!(
        (told.clock, told.point),
        (StampClock::Monotonic, StampPoint::StartOfExposure)
    );
    vivid.set("Timestamp Source", 0);
    let camera = V4l2Camera::open(&source(PixelFormat::Grey)).expect("opens");
    assert_eq!(camera.stamping().point, StampPoint::EndOfFrame);
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn a_count_that_wraps_is_passed_on_as_it_is() {
    let vivid = Vivid::load();
    vivid.set("Wrap Sequence Number", 1);
    let mut camera = V4l2Camera::open(&source(PixelFormat::Grey)).expect("opens");
    let (mut frame, mut wrapped) = (frame(), false);
    let mut last = None::<u32>;
    for _ in 0..300 {
        next(&mut camera, &mut frame);
        if let Some(last) = last {
            let ahead = frame.sequence.wrapping_sub(last);
            assert!((1..1_000).contains(&ahead), "{last} → {}", frame.sequence);
            wrapped |= frame.sequence < last;
        }
        last = Some(frame.sequence);
        if wrapped {
            return;
        }
    }
    panic!("the count did not wrap; the last was {last:?}");
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn broken_and_dropped_buffers_are_not_pictures() {
    let vivid = Vivid::load();
    let mut camera = V4l2Camera::open(&source(PixelFormat::Grey)).expect("opens");
    let mut frame = frame();
    next(&mut camera, &mut frame);
    let before = frame.sequence;
    vivid.set("Inject V4L2_BUF_FLAG_ERROR", 1);
    let mut damaged = None;
    vm::wait_until("a damaged picture", || {
        damaged = match camera.next_into(TURN, &mut frame).expect("streams on") {
            Capture::Damaged(damage) => Some(damage),
            _ => None,
        };
        damaged.is_some()
    });
    assert_eq!(damaged, Some(Damage::Flagged));
    next(&mut camera, &mut frame);
    // The damaged one has a number, too, so that the core sees the gap.
    assert!(frame.sequence.wrapping_sub(before) >= 2);
    vivid.set("Percentage of Dropped Buffers", 60);
    let (mut gaps, mut last) = (0, frame.sequence);
    for _ in 0..15 {
        next(&mut camera, &mut frame);
        gaps += frame.sequence.wrapping_sub(last) - 1;
        last = frame.sequence;
    }
    assert!(gaps > 0, "no buffer was dropped");
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn stamps_of_another_age_are_not_believed() {
    let vivid = Vivid::load();
    let mut frame = frame();
    // Shortly before its clock wraps at 64 bits, and at 32; wound forward when streaming starts.
    for wrap in [1, 2] {
        vivid.set("Wrap Timestamp", wrap);
        let mut camera = V4l2Camera::open(&source(PixelFormat::Grey)).expect("opens");
        for _ in 0..3 {
            let got = camera.next_into(TURN, &mut frame).expect("streams on");
            assert!(
                matches!(got, Capture::Nothing | Capture::Damaged(Damage::Stamp)),
                "{got:?}"
            );
        }
    }
    vivid.set("Wrap Timestamp", 0);
    next(
        &mut V4l2Camera::open(&source(PixelFormat::Grey)).expect("opens"),
        &mut frame,
    );
    assert!(frame.mid_exposure <= clock::now());
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn a_streaming_error_ends_it_and_opening_anew_brings_it_back() {
    let vivid = Vivid::load();
    let mut camera = V4l2Camera::open(&source(PixelFormat::Grey)).expect("opens");
    next(&mut camera, &mut frame());
    vivid.set("Inject Fatal Streaming Error", 1);
    let error = error_of(&mut camera);
    println!("{error}");
    assert!(matches!(error, CameraError::Driver { .. }), "{error}");
    drop(camera);
    let mut camera = V4l2Camera::open(&source(PixelFormat::Grey)).expect("opens again");
    next(&mut camera, &mut frame());
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn errors_of_the_queue_are_errors_and_no_more() {
    let vivid = Vivid::load();
    for fault in ["Inject VIDIOC_REQBUFS Error", "Inject VIDIOC_STREAMON Error"] {
        vivid.set(fault, 1);
        let error = V4l2Camera::open(&source(PixelFormat::Grey)).expect_err(fault);
        println!("{fault}: {error}");
        assert!(matches!(error, CameraError::Driver { .. }), "{error}");
        let mut camera = V4l2Camera::open(&source(PixelFormat::Grey)).expect("opens again");
        next(&mut camera, &mut frame());
    }
    let mut camera = V4l2Camera::open(&source(PixelFormat::Grey)).expect("opens");
    next(&mut camera, &mut frame());
    vivid.set("Inject VIDIOC_QBUF Error", 1);
    let error = error_of(&mut camera);
    println!("{error}");
    drop(camera);
    next(
        &mut V4l2Camera::open(&source(PixelFormat::Grey)).expect("opens again"),
        &mut frame(),
    );
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn an_unplugged_camera_is_gone_at_once_and_back_when_it_is_plugged_in() {
    let vivid = Vivid::load();
    let mut camera = V4l2Camera::open(&source(PixelFormat::Grey)).expect("opens");
    next(&mut camera, &mut frame());
    // vivid plugs itself in again when the last one closes it.
    let held = v4l::Device::with_path(&vivid.device).expect("vivid can be opened twice");
    vivid.set("Disconnect", 1);
    let error = error_of(&mut camera);
    println!("{error}");
    assert!(matches!(error, CameraError::Gone { .. }), "{error}");
    drop(camera);
    let error = V4l2Camera::open(&source(PixelFormat::Grey)).expect_err("nobody is there");
    println!("{error}");
    assert!(matches!(error, CameraError::Gone { .. }), "{error}");
    drop(held);
    let mut camera = V4l2Camera::open(&source(PixelFormat::Grey)).expect("back");
    next(&mut camera, &mut frame());
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn a_driver_taken_from_the_device_is_as_an_unplugged_camera() {
    let _vivid = Vivid::load();
    let mut camera = V4l2Camera::open(&source(PixelFormat::Grey)).expect("opens");
    next(&mut camera, &mut frame());
    vm::write(Path::new("/sys/bus/platform/drivers/vivid/unbind"), "vivid.0");
    let error = error_of(&mut camera);
    assert!(matches!(error, CameraError::Gone { .. }), "{error}");
    drop(camera);
    vm::write(Path::new("/sys/bus/platform/drivers/vivid/bind"), "vivid.0");
    vm::wait_until("the camera", || Path::new("/dev/video0").exists());
    vm::wait_until("it to open", || {
        V4l2Camera::open(&source(PixelFormat::Grey)).is_ok()
    });
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn a_camera_in_use_is_said_to_be_so() {
    let _vivid = Vivid::load();
    let mut camera = V4l2Camera::open(&source(PixelFormat::Grey)).expect("opens");
    next(&mut camera, &mut frame());
    let error = V4l2Camera::open(&source(PixelFormat::Grey)).expect_err("in use");
    assert!(matches!(error, CameraError::Busy { .. }), "{error}");
    let seen = describe::describe(Path::new("/dev/video0")).expect("can be asked");
    assert!(seen.busy && seen.stamps.is_none());
    // Being looked at did it no harm.
    next(&mut camera, &mut frame());
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn probe_tells_a_technician_what_there_is() {
    let _vivid = Vivid::load();
    let text = vm::run(vm::ELEK, &["probe"]);
    println!("{text}");
    for words in [
        "/dev/video0\n",
        "vivid (vivid, platform:vivid-000)",
        "GREY  320 × 180 at 120, 60",
        "stamps pictures",
        "at the start of exposure",
        "! /dev/video0 has no path that stays the same across boots.",
        "! /dev/video0 has no control for its exposure time.",
        "MACHINE",
    ] {
        assert!(text.contains(words), "no {words:?}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&vm::run(vm::ELEK, &["probe", "--json"])).expect("JSON");
    assert_eq!(json["sections"][0]["title"], "cameras");
    assert_eq!(json["sections"][0]["findings"][0]["name"], "/dev/video0");
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn a_camera_of_the_other_buffer_interface_streams_as_well() {
    let _vivid = Vivid::load_with(&["multiplanar=2"]);
    for pixels in [PixelFormat::Grey, PixelFormat::Nv12, PixelFormat::Yuyv] {
        let mut camera =
            V4l2Camera::open(&source(pixels)).unwrap_or_else(|error| panic!("{pixels}: {error}"));
        let mut frame = frame();
        next(&mut camera, &mut frame);
        to_rgb(&frame).unwrap_or_else(|error| panic!("{pixels}: {error}"));
    }
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn after_the_first_pictures_nothing_is_allocated_for_a_frame() {
    let _vivid = Vivid::load();
    let mut camera = V4l2Camera::open(&source(PixelFormat::Yuyv)).expect("opens");
    let mut frame = frame();
    next(&mut camera, &mut frame);
    let (place, capacity) = (frame.bytes.as_ptr(), frame.bytes.capacity());
    for _ in 0..5 {
        next(&mut camera, &mut frame);
        assert_eq!((frame.bytes.as_ptr(), frame.bytes.capacity()), (place, capacity));
    }
}
