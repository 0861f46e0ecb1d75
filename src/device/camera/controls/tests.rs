//! Cameras of several kinds, and what is set on them.

use super::*;
use crate::config::PictureFormat;
use crate::vision::frame::PixelFormat;

fn source() -> V4l2Source {
    V4l2Source {
        device: "/dev/video0".into(),
        format: PictureFormat {
            pixels: PixelFormat::Grey,
            width: 640,
            height: 480,
            fps_milli: 30_000,
        },
        exposure_us: 1_000,
        set_exposure: true,
        gain: None,
        power_line: None,
        controls: Vec::new(),
    }
}

fn control(id: u32, name: &str, kind: Kind, min: i32, max: i32, value: i32) -> ControlInfo {
    ControlInfo {
        id,
        name: name.into(),
        kind,
        min,
        max,
        step: 1,
        default: min,
        flags: 0,
        items: Vec::new(),
        value: Some(value),
    }
}

fn auto_exposure(items: &[i32]) -> ControlInfo {
    let mut auto = control(sys::V4L2_CID_EXPOSURE_AUTO, "Auto Exposure", Kind::Menu, 0, 3, 3);
    auto.items = items.iter().map(|item| (*item, format!("Mode {item}"))).collect();
    auto
}

fn exposure(min: i32, max: i32) -> ControlInfo {
    let id = sys::V4L2_CID_EXPOSURE_ABSOLUTE;
    control(id, "Exposure Time, Absolute", Kind::Number, min, max, 157)
}

fn gain() -> ControlInfo {
    control(sys::V4L2_CID_GAIN, "Gain", Kind::Number, 0, 255, 0)
}

/// A usual USB camera.
fn usb() -> Vec<ControlInfo> {
    let id = sys::V4L2_CID_POWER_LINE_FREQUENCY;
    let mut power = control(id, "Power Line Frequency", Kind::Menu, 0, 2, 2);
    power.items = vec![(0, "Disabled".into()), (1, "50 Hz".into()), (2, "60 Hz".into())];
    let rate = sys::V4L2_CID_EXPOSURE_AUTO_PRIORITY;
    vec![
        control(0x0098_0900, "Brightness", Kind::Number, -64, 64, 0),
        control(0x0098_090c, "White Balance, Automatic", Kind::Switch, 0, 1, 1),
        gain(),
        power,
        auto_exposure(&[1, 3]),
        exposure(1, 5_000),
        control(rate, "Exposure, Dynamic Framerate", Kind::Switch, 0, 1, 1),
    ]
}

fn steps(plan: &Plan) -> Vec<(&str, i32)> {
    plan.steps
        .iter()
        .map(|step| (step.name.as_str(), step.value))
        .collect()
}

fn with(setting: (&str, ControlValue)) -> V4l2Source {
    let mut source = source();
    source.controls = vec![ControlSetting {
        name: setting.0.into(),
        value: setting.1,
    }];
    source
}

#[test]
fn automatics_go_off_before_what_they_override_is_set() {
    let mut source = with(("white balance automatic", ControlValue::Flag(false)));
    source.gain = Some(20);
    source.power_line = Some(PowerLine::Hz50);
    let plan = plan(&source, &usb()).unwrap();
    assert_eq!(
        steps(&plan),
        [
            ("Auto Exposure", 1),
            ("Exposure, Dynamic Framerate", 0),
            ("Power Line Frequency", 1),
            ("White Balance, Automatic", 0),
            ("Exposure Time, Absolute", 10),
            ("Gain", 20),
        ]
    );
    assert_eq!(plan.notes, [""; 0]);
    assert!(plan.steps[4].must_act && plan.steps[5].must_act);
}

#[test]
fn exposure_is_rounded_to_the_unit_of_the_driver_and_refused_when_that_is_too_far() {
    let set = |us, offered: &[ControlInfo]| {
        let source = V4l2Source {
            exposure_us: us,
            ..source()
        };
        plan(&source, offered)
    };
    let value = |us| {
        set(us, &usb())
            .unwrap()
            .steps
            .iter()
            .find(|s| s.name.contains("Absolute"))
            .unwrap()
            .value
    };
    assert_eq!((value(100), value(1_000), value(1_040)), (1, 10, 10));
    let rounded = set(180, &usb()).unwrap();
    assert!(
        rounded.notes[0].contains("`exposure_us = 200`"),
        "{:?}",
        rounded.notes
    );
    let short = set(50, &usb()).unwrap_err();
    assert!(
        matches!(
            short,
            ControlError::ExposureRange {
                wanted_us: 50,
                nearest_us: 100,
                ..
            }
        ),
        "{short}"
    );
    let long = set(1_000_000, &usb()).unwrap_err();
    assert!(long.to_string().contains("`exposure_us = 500000`"), "{long}");
    // Steps count from the minimum; zero is never set.
    let mut coarse = exposure(5, 1_000);
    coarse.step = 10;
    assert_eq!(
        steps(&set(2_400, &[coarse]).unwrap()),
        [("Exposure Time, Absolute", 25)]
    );
    assert_eq!(
        steps(&set(100, &[exposure(0, 10)]).unwrap()),
        [("Exposure Time, Absolute", 1)]
    );
}

#[test]
fn a_camera_without_exposure_control_is_refused_unless_the_configuration_says_so() {
    let error = plan(&source(), &[gain()]).unwrap_err();
    assert!(error.to_string().contains("set_exposure = false"), "{error}");
    let by_itself = V4l2Source {
        set_exposure: false,
        ..source()
    };
    // Then the automatic is left alone as well.
    assert_eq!(steps(&plan(&by_itself, &usb()).unwrap()), []);
}

#[test]
fn exposure_in_the_drivers_own_unit_is_set_by_name() {
    let own = control(sys::V4L2_CID_EXPOSURE, "Exposure", Kind::Number, 4, 1_200, 4);
    let error = plan(&source(), std::slice::from_ref(&own)).unwrap_err();
    assert!(error.to_string().contains("4 to 1200"), "{error}");
    let source = with(("exposure", ControlValue::Number(88)));
    assert_eq!(steps(&plan(&source, &[own]).unwrap()), [("Exposure", 88)]);
}

#[test]
fn automatic_exposure_that_cannot_be_switched_off_is_refused() {
    let offered = [auto_exposure(&[0, 3]), exposure(1, 100)];
    assert!(matches!(
        plan(&source(), &offered),
        Err(ControlError::AlwaysAutomatic { .. })
    ));
    let shutter = [auto_exposure(&[0, 2]), exposure(1, 100)];
    assert_eq!(
        steps(&plan(&source(), &shutter).unwrap())[0],
        ("Auto Exposure", 2)
    );
}

#[test]
fn gain_switches_its_automatic_off_or_says_that_it_is_on() {
    let auto = control(sys::V4L2_CID_AUTOGAIN, "Gain, Automatic", Kind::Switch, 0, 1, 1);
    let offered = [exposure(1, 100), auto, gain()];
    let mut wanted = source();
    assert_eq!(plan(&wanted, &offered).unwrap().notes.len(), 1);
    wanted.gain = Some(3);
    let set = plan(&wanted, &offered).unwrap();
    assert_eq!(
        steps(&set),
        [
            ("Gain, Automatic", 0),
            ("Exposure Time, Absolute", 10),
            ("Gain", 3)
        ]
    );
    wanted.gain = Some(256);
    assert!(matches!(plan(&wanted, &offered), Err(ControlError::Value { .. })));
    assert_eq!(plan(&wanted, &offered[..1]), Err(ControlError::NoGain));
    let analogue = control(
        sys::V4L2_CID_ANALOGUE_GAIN,
        "Analogue Gain",
        Kind::Number,
        0,
        480,
        0,
    );
    let offered = [exposure(1, 100), analogue];
    assert_eq!(
        steps(&plan(&wanted, &offered).unwrap())[1],
        ("Analogue Gain", 256)
    );
}

#[test]
fn a_missing_power_line_control_is_only_said() {
    let source = V4l2Source {
        power_line: Some(PowerLine::Off),
        ..source()
    };
    let plan = plan(&source, &[exposure(1, 100)]).unwrap();
    assert_eq!((plan.steps.len(), plan.notes.len()), (1, 1));
}

#[test]
fn named_controls_take_numbers_words_and_numbers_of_theirs() {
    let value = |setting| {
        let plan = plan(&with(setting), &usb())?;
        Ok::<_, ControlError>(plan.steps[2].value)
    };
    use ControlValue::{Flag, Number, Word};
    assert_eq!(value(("Brightness", Number(-64))), Ok(-64));
    assert_eq!(value(("0x00980900", Number(7))), Ok(7));
    assert_eq!(value(("Power Line Frequency", Word("50 hz".into()))), Ok(1));
    assert_eq!(value(("white-balance-automatic", Flag(true))), Ok(1));
    let bad = |setting| value(setting).unwrap_err().to_string();
    assert!(bad(("Brightness", Number(65))).contains("-64 to 64"));
    assert!(bad(("Brightness", Number(1 << 40))).contains("-64 to 64"));
    assert!(bad(("Power Line Frequency", Word("70 Hz".into()))).contains("1 = 50 Hz"));
    assert!(bad(("Brigthness", Number(1))).contains("Did you mean `Brightness`?"));
    assert!(bad(("Zoom", Number(1))).contains("elek probe"));
}

#[test]
fn what_can_only_be_read_is_accepted_when_it_is_as_wanted() {
    let mut fixed = exposure(10, 10);
    fixed.flags = sys::V4L2_CTRL_FLAG_READ_ONLY;
    fixed.value = Some(10);
    assert_eq!(steps(&plan(&source(), std::slice::from_ref(&fixed)).unwrap()), []);
    fixed.value = Some(11);
    assert!(matches!(
        plan(&source(), &[fixed]),
        Err(ControlError::ReadOnly { .. })
    ));
}

#[test]
fn names_are_compared_without_case_and_marks() {
    assert_eq!(folded("White Balance, Automatic"), "white_balance_automatic");
    assert_eq!(folded("  --Gain-- "), "gain");
    assert_eq!(folded(""), "");
    assert_eq!(switches_on(&usb()), "`White Balance, Automatic`, `Auto Exposure`");
}
