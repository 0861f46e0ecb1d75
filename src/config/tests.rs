//! Bad files and what is said about them; the default; mutations of it.

mod mutations;

use super::arithmetic::{self, Facts, Level, Soc};
use super::*;
use crate::infer::manifest::{self, Activation, Channels, Filter, ManifestError, ModelFile, Task};
use std::path::Path;

/// The built-in models without their files, so that these tests are about the configuration alone.
fn resolve(base: &Path, model: &str, pinned: Option<&str>) -> Result<ModelInfo, ManifestError> {
    let labels = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let info = |name: &str, task, labels, macs| ModelInfo {
        name: name.into(),
        task,
        file: ModelFile::Builtin(name.into()),
        sha256: [0; 32],
        size: 224,
        input_name: "image".into(),
        mean: [127.0; 3],
        scale: [128.0; 3],
        channels: Channels::Rgb,
        output_name: "out".into(),
        activation: Activation::None,
        labels,
        threshold: 0.5,
        filter: Filter::Bilinear,
        macs: Some(macs),
    };
    match model {
        "builtin:cap-classify" | "cap.int8.onnx" => {
            let all = labels(&["good", "scratch", "dent", "contamination", "missing"]);
            Ok(info("cap-classify", Task::Classify, all, 389_000_000))
        }
        "builtin:cap-segment" | "cap_unet.int8.onnx" => {
            let all = labels(&["scratch", "dent", "contamination", "missing"]);
            Ok(info("cap-segment", Task::Segment, all, 300_000_000))
        }
        _ => manifest::resolve(base, model, pinned),
    }
}

fn read(text: &str) -> Result<Config, Report> {
    parse_with(text, "elek.toml", Path::new("/etc/elek"), &resolve)
}

/// The default with every `(this, that)` replaced; each `this` must be in it.
fn changed(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(DEFAULT.to_owned(), |text, (this, that)| {
        assert!(text.contains(this), "the default has no {this:?}");
        text.replacen(this, that, 1)
    })
}

/// What is said about the default with these changes.
fn said(changes: &[(&str, &str)]) -> String {
    match read(&changed(changes)) {
        Ok(_) => "no problem".to_owned(),
        Err(report) => report.to_string(),
    }
}

#[test]
fn the_default_is_valid_and_warns_of_nothing() {
    let checked = check_text(DEFAULT, "default.toml", Path::new("/"), &resolve, None);
    let config = checked.config.unwrap_or_else(|report| panic!("{report}"));
    for finding in &checked.findings {
        assert_eq!(finding.level, Level::Ok, "{finding:?}");
    }
    assert_eq!(config.station.id, "L1-REJ-01");
    assert_eq!(config.recipes.len(), 1);
    assert_eq!(config.recipes[0].rules.reject_if.len(), 1);
    assert_eq!(config.record.path, Path::new("/elek-data"));
    assert_eq!(config.outputs.len(), 3);
    assert!(
        config.outputs[usize::from(config.reject.output.0)]
            .max_on
            .is_some()
    );
    assert!(!config.outputs[usize::from(config.belt.permit.0)].safe_on);
    assert_eq!(config.cameras[0].exposure, Micros::new(80));
}

#[test]
fn the_arithmetic_of_the_default() {
    let checked = check_text(
        DEFAULT,
        "default.toml",
        Path::new("/"),
        &resolve,
        Some(Soc::CortexA72),
    );
    let lines: Vec<String> = checked
        .findings
        .iter()
        .map(|f| format!("{:?} {}: {}; {}", f.level, f.title, f.numbers, f.words))
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

/// The file of the design document, on real lines with a real camera.
#[test]
fn a_real_line() {
    let text = include_str!("testdata/real-line.toml");
    let checked = check_text(text, "elek.toml", Path::new("/etc/elek"), &resolve, None);
    let config = checked.config.unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(config.cameras[0].stamp_offset, Micros::new(-9_200));
    assert_eq!(config.cameras[0].exposure, Micros::new(180));
    assert!(matches!(config.trigger, Trigger::PhotoEye { ref line, .. } if line.active_low));
    assert!(matches!(
        &config.belt.motion,
        Motion::Encoder {
            source: EncoderSource::Counter(_),
            ..
        }
    ));
    assert_eq!(
        config.verify.bin_full.as_ref().map(|bin| bin.hold),
        Some(Micros::from_millis(4_000))
    );
    assert_eq!(config.record.passed, Keep::OneIn(500));
    let doubts: Vec<&str> = checked
        .findings
        .iter()
        .filter(|f| f.level == Level::Warn)
        .map(|f| f.title.as_str())
        .collect();
    assert_eq!(doubts, ["gap", "chute window"]);
}

#[test]
fn many_mistakes_are_shown_at_once() {
    insta::assert_snapshot!(said(&[
        ("schema = 1\n", "schema = 1\ncolour = \"red\"\n"),
        ("id = \"L1-REJ-01\"", "id = 7"),
        ("on_fault = \"stop_belt\"", "on_fault = \"stop_bet\""),
        ("coast_mm = 220.0 ", "coast = 220.0 "),
        ("{ min = 150.0, max = 1250.0 }", "{ min = 1250.0, max = 150.0 }"),
        ("pulses_per_mm = 4.0", "pulses_per_mm = \"4.0\""),
        ("belt_axis = \"+x\"", "belt_axis = \"x\""),
        ("defective = 0.15", "defective = 15"),
        ("footprint_mm = 6.0", "footprint_mm = -6.0"),
        ("fourcc = \"YUYV\", width = 640", "fourcc = \"YUV\", width = 641"),
    ]));
}

#[test]
fn odd_widths_are_refused_where_pixels_share_colour() {
    insta::assert_snapshot!(said(&[("width = 640", "width = 641")]));
}

#[test]
fn rules_are_pointed_at_within_their_string() {
    insta::assert_snapshot!(said(&[
        ("\"good >= 0.30\"", "\"goood >= 0.90\", \"good => 0.9\""),
        (
            "reject_if = [\"defect.area_mm2 > 0.8 unless good >= 0.95\"]",
            "reject_if = ['dent >= many', \"d\\u0065fect.aera_mm2 > 3.0\"]"
        ),
    ]));
}

#[test]
fn missing_tables_and_keys() {
    insta::assert_snapshot!(said(&[
        (
            "[station.lines]\nacknowledge = { chip = \"sim\", name = \"ACK\" }",
            "[station.lines]\nacknowledge = { chip = \"sim\" }"
        ),
        ("[record]\npath = \"elek-data\" ", "[display]\n#"),
        (
            "rejected = \"all\"\npassed = { one_in = 50 }\nkeep_free_percent = 10\n\n[display]\n",
            ""
        ),
        ("mm_per_px = 0.12\n", ""),
        ("[reject.air-blast]", "[reject]"),
        (
            "pass_if = [\"good >= 0.30\", \"defect.area_mm2 <= 0.8 unless good >= 0.95\"]",
            "pass_if = []",
        ),
    ]));
}

#[test]
fn one_of_several_tables() {
    insta::assert_snapshot!(said(&[
        (
            "[belt.encoder] ",
            "[belt.time]\nspeed_mm_s = 2000.0\n[belt.encoder] "
        ),
        ("stable_us = 800", "vision = true\nstable_us = 800"),
        ("[camera.top.source.simulated]", "[camera.top.source.simulate]"),
    ]));
}

#[test]
fn vision_trigger() {
    let vision = (
        "line = { chip = \"sim\", name = \"PE_TRIG\" }\nstable_us = 800",
        "vision = true\n#",
    );
    insta::assert_snapshot!(said(&[vision]));
    let free = ("mode = \"triggered\"", "mode = \"free_running\"");
    let text = changed(&[vision, free, ("distance_mm = 60.0", "distance_mm = 0")]);
    let config = read(&text).unwrap_or_else(|report| panic!("{report}"));
    assert!(matches!(config.trigger, Trigger::Vision));
    assert_eq!(
        config.cameras[0].mode,
        CameraMode::FreeRunning { fps_milli: 60_000 }
    );
}

#[test]
fn lines_used_twice_and_of_two_worlds() {
    insta::assert_snapshot!(said(&[
        ("name = \"PE_BIN\"", "name = \"PE_CHUTE\""),
        ("permit = { chip = \"sim\"", "permit = { chip = \"gpiochip0\""),
        (
            "source = \"simulated\" ",
            "source = { counter = \"/dev/counter0\" } "
        ),
    ]));
}

/// The real line with other lines for its camera and, at the end, its display.
fn real_line(camera: &str, display: &str) -> Result<Config, Report> {
    let text = include_str!("testdata/real-line.toml");
    let text = text.replacen("exposure_us = 180", camera, 1);
    read(&format!("{text}\n{display}\n"))
}

#[test]
fn controls_of_a_camera_and_its_display() {
    let camera = "exposure_us = 200\nset_exposure = false\ngain = 4\npower_line = \"50hz\"\n\
                  controls = { \"White Balance, Automatic\" = false, gamma = 100, \"0x00980900\" = -3, mode = \"Global Shutter\" }";
    let config = real_line(camera, "[display]\nframebuffer = \"/dev/fb0\"")
        .unwrap_or_else(|report| panic!("{report}"));
    let CameraSource::V4l2(source) = &config.cameras[0].source else {
        panic!("{:?}", config.cameras[0].source);
    };
    assert_eq!((source.exposure_us, source.set_exposure), (200, false));
    assert_eq!((source.gain, source.power_line), (Some(4), Some(PowerLine::Hz50)));
    let controls: Vec<_> = source
        .controls
        .iter()
        .map(|c| (c.name.as_str(), c.value.clone()))
        .collect();
    assert_eq!(
        controls,
        [
            ("White Balance, Automatic", ControlValue::Flag(false)),
            ("gamma", ControlValue::Number(100)),
            ("0x00980900", ControlValue::Number(-3)),
            ("mode", ControlValue::Word("Global Shutter".into())),
        ]
    );
    assert_eq!(config.display.framebuffer.as_deref(), Some(Path::new("/dev/fb0")));
    assert_eq!(config.display.console.as_deref(), Some(Path::new("/dev/tty0")));
    let plain = real_line("exposure_us = 180", "").unwrap_or_else(|report| panic!("{report}"));
    assert_eq!((plain.display.framebuffer, plain.display.console), (None, None));
    let CameraSource::V4l2(source) = &plain.cameras[0].source else {
        panic!("{:?}", plain.cameras[0].source);
    };
    assert!(source.set_exposure && source.controls.is_empty());
}

#[test]
fn mistakes_about_a_camera_and_its_display() {
    let camera = "exposure_us = 200\nset_exposure = \"no\"\npower_line = \"55hz\"\ngane = 4\n\
                  controls = { gamma = 1.5, brightness = [1] }";
    let report = real_line(
        camera,
        "[display]\nframebuffer = \"fb0\"\nconsole = \"/dev/tty1\"",
    )
    .unwrap_err();
    let console = real_line("exposure_us = 180", "[display]\nconsole = \"/dev/tty1\"").unwrap_err();
    insta::assert_snapshot!(format!("{report}\n\n{console}"));
}

/// A panel beside the simulated line: it can be tried without a belt.
fn with_panel(panel: &str) -> Result<Config, Report> {
    let button = "page = { chip = \"io\", line = 24, active = \"low\", bias = \"pull_up\" }\n";
    let text = DEFAULT.replacen("[station.lines]\n", &format!("[station.lines]\n{button}"), 1);
    read(&format!("{text}\n[display.panel]\n{panel}\n"))
}

const SPI: &str = "spi = \"/dev/spidev0.0\"\ndata_command = { chip = \"io\", name = \"GPIO25\" }\n";

#[test]
fn small_panels_are_as_they_usually_come_or_as_the_file_says() {
    let panel = |text: &str| {
        let config = with_panel(text).unwrap_or_else(|report| panic!("{report}"));
        assert!(config.station.page.is_some());
        config.display.panel.expect("it is in the file")
    };
    let st7789 = panel(&format!("driver = \"st7789\"\nsize = \"240x240\"\n{SPI}"));
    assert_eq!(
        (st7789.size(), st7789.inverted, st7789.bgr),
        ((240, 240), true, false)
    );
    let PanelBus::Spi {
        hz,
        mode,
        data_command,
        ..
    } = &st7789.bus
    else {
        panic!("{:?}", st7789.bus);
    };
    assert_eq!(
        (*hz, *mode, &data_command.name),
        (16_000_000, 0, &"GPIO25".into())
    );
    let ili9341 = panel(&format!(
        "driver = \"ili9341\"\nrotation = 90\nspi_mhz = 32.5\n{SPI}\
         reset = {{ chip = \"io\", name = \"GPIO27\" }}\n\
         backlight = {{ chip = \"io\", name = \"GPIO18\", active = \"low\" }}"
    ));
    assert_eq!(
        (ili9341.size(), ili9341.mirror, ili9341.bgr),
        ((320, 240), true, true)
    );
    assert!(ili9341.backlight.is_some_and(|line| line.active_low));
    let config = with_panel(&format!("driver = \"st7789\"\nsize = \"240x240\"\n{SPI}")).expect("as above");
    let findings = arithmetic::check(&config, &arithmetic::Facts::default());
    let cost = findings.iter().find(|finding| finding.title == "panel");
    assert_eq!(
        cost.expect("it is reckoned").numbers,
        "240 × 240 at 16 MHz: 58 ms"
    );
    let turned = panel(&format!(
        "driver = \"st7789\"\nsize = \"240x280\"\noffset = {{ y = 20 }}\nrotation = 270\nmirror = true\n\
         inverted = false\ncolours = \"bgr\"\n{SPI}"
    ));
    assert_eq!((turned.size(), turned.offset), ((280, 240), (0, 20)));
    assert!(turned.mirror && turned.bgr && !turned.inverted);
    let ssd1306 = panel("driver = \"ssd1306\"\ni2c = \"/dev/i2c-1\"\naddress = 0x3d\nrotation = 180");
    assert_eq!((ssd1306.size(), ssd1306.rotation), ((128, 64), Rotation::Half));
    let PanelBus::I2c { address, .. } = ssd1306.bus else {
        panic!("{:?}", ssd1306.bus);
    };
    assert_eq!(address, 0x3d);
    assert!(matches!(
        panel(&format!("driver = \"ssd1306\"\n{SPI}")).bus,
        PanelBus::Spi { .. }
    ));
}

#[test]
fn mistakes_about_a_small_panel() {
    let said = |panel: &str| match with_panel(panel) {
        Ok(config) => panic!("{:?}", config.display.panel),
        Err(report) => report.to_string(),
    };
    let no_bus = said("driver = \"ili9341\"\ni2c = \"/dev/i2c-1\"");
    let all = [
        said("driver = \"st7735\"\nspi = 3"),
        said(&format!(
            "driver = \"st7789\"\nsize = \"320x240\"\nrotation = 45\naddress = 0x3c\n{SPI}"
        )),
        said(&format!(
            "driver = \"st7789\"\nsize = \"240x240\"\noffset = {{ y = 81 }}\nspi_mhz = 500\n{SPI}"
        )),
        no_bus,
        said("driver = \"ssd1306\"\ni2c = \"i2c-1\"\naddress = 60\nrotation = 90\ninverted = true"),
        said("driver = \"ssd1306\"\ni2c = \"/dev/i2c-1\"\naddress = 0x78\nspi = \"/dev/spidev0.0\""),
        said("driver = \"ssd1306\"\ni2c = \"/dev/i2c-1\"\naddress = 0x50"),
        said(
            "driver = \"ili9341\"\nspi = \"/dev/spidev0.0\"\ndata_command = { chip = \"sim\", name = \"DC\" }\n\
              reset = { chip = \"io\", line = 24, active = \"low\" }",
        ),
    ];
    insta::assert_snapshot!(all.join("\n\n"));
    let text = DEFAULT.replacen(
        "[station.lines]\n",
        "[station.lines]\npage = { chip = \"io\", line = 24 }\n",
        1,
    );
    let report = read(&text).unwrap_err().to_string();
    assert!(
        report.contains("there is none") && report.contains("nothing to turn"),
        "{report}"
    );
}

#[test]
fn a_real_camera_wants_real_lines() {
    let text = said(&[(
        "[camera.top.source.simulated]           # or .folder, .v4l2\nseed = 1\nparts_per_s = 20.0\ndefective = 0.15 ",
        "[camera.top.source.v4l2]\ndevice = \"/dev/video0\" ",
    )]);
    assert!(
        text.contains("`trigger.line` is a simulated line, but the camera is real"),
        "{text}"
    );
    assert!(
        text.contains("a real camera cannot be used with a simulated encoder"),
        "{text}"
    );
}

#[test]
fn safe_states_that_are_not_safe() {
    insta::assert_snapshot!(said(&[
        (
            "name = \"BELT_RUN\", safe = \"off\"",
            "name = \"BELT_RUN\", safe = \"on\""
        ),
        (
            "name = \"REJ1\", safe = \"off\"",
            "name = \"REJ1\", safe = \"on\""
        ),
    ]));
}

#[test]
fn models_that_are_not_there() {
    insta::assert_snapshot!(said(&[
        (
            "classify = { model = \"builtin:cap-classify\" }",
            "classify = { model = \"cap.onnx\" }"
        ),
        (
            "segment = { model = \"builtin:cap-segment\" }",
            "segment = { model = \"builtin:cap-classify\", sha256 = \"12\" }",
        ),
    ]));
}

#[test]
fn unknown_recipe_at_start() {
    insta::assert_snapshot!(said(&[("recipe = \"cap-28mm\"", "recipe = \"cap-26mm\"")]));
}

#[test]
fn syntax_errors_and_what_else_is_wrong() {
    insta::assert_snapshot!(said(&[
        ("coast_mm = 220.0", "coast_mm = 220.0"),
        ("stable_us = 800", "stable_us = 800\nstable_us = 900"),
        ("on_fault = \"stop_belt\"", "on_fault = stop_belt"),
        ("footprint_mm = 6.0", "footprint_mm = \"wide\""),
    ]));
}

#[test]
fn truncated_files() {
    let within = &DEFAULT[..DEFAULT.find("L1-REJ").expect("is in the default") + 3];
    insta::assert_snapshot!(
        "truncated_within_a_string",
        read(within).expect_err("truncated").to_string()
    );
    let at_table = &DEFAULT[..DEFAULT.find("[reject.air-blast]").expect("is in the default")];
    insta::assert_snapshot!(
        "truncated_at_a_table",
        read(at_table).expect_err("truncated").to_string()
    );
}

#[test]
fn schemas_of_other_versions() {
    insta::assert_snapshot!(
        "newer_schema",
        said(&[("schema = 1", "schema = 2\nnovel = true")])
    );
    insta::assert_snapshot!("older_schema", said(&[("schema = 1", "schema = 0")]));
    let none = said(&[("schema = 1", "")]);
    assert!(none.contains("`schema` is missing"), "{none}");
}

#[test]
fn what_cannot_work_is_refused_with_its_numbers() {
    insta::assert_snapshot!(
        "deadline",
        said(&[("decide_within_ms = 350", "decide_within_ms = 900")])
    );
    insta::assert_snapshot!(
        "deadline_within_the_exposure",
        said(&[
            ("decide_within_ms = 350", "decide_within_ms = 20"),
            ("mm_per_px = 0.12", "readout_ms = 33.0\nmm_per_px = 0.12")
        ])
    );
    insta::assert_snapshot!(
        "reject_before_camera",
        said(&[("distance_mm = 650.0", "distance_mm = 70.0")])
    );
    insta::assert_snapshot!(
        "mask_pixels",
        said(&[("defect.area_mm2 > 0.8", "defect.area_mm2 > 0.1")])
    );
    insta::assert_snapshot!(
        "stretched",
        said(&[(
            "crop = { around = \"part\", margin_mm = 4.0 }",
            "crop = { around = \"picture\", fit = \"stretch\" }"
        )])
    );
    insta::assert_snapshot!("windows", said(&[("window_mm = 20.0", "window_mm = 25.0")]));
    insta::assert_snapshot!(
        "passed_eye_early",
        said(&[("distance_mm = 750.0", "distance_mm = 400.0")])
    );
    insta::assert_snapshot!("gap", said(&[("footprint_mm = 6.0", "footprint_mm = 40.0")]));
    insta::assert_snapshot!("max_on", said(&[("max_on_ms = 400", "max_on_ms = 100")]));
    insta::assert_snapshot!("debounce", said(&[("stable_us = 800", "stable_us = 80000")]));
    insta::assert_snapshot!("blur", said(&[("exposure_us = 80", "exposure_us = 8000")]));
    insta::assert_snapshot!("rate", said(&[("parts_per_s = 20.0", "parts_per_s = 100.0")]));
    insta::assert_snapshot!(
        "view",
        said(&[
            ("mode = \"triggered\"", "mode = \"free_running\""),
            ("fps = 60", "fps = 15")
        ])
    );
    insta::assert_snapshot!(
        "merging",
        said(&[
            (
                "pulse = { margin_mm = 3.0, min_ms = 15 }",
                "pulse = { margin_mm = 3.0, min_ms = 60 }"
            ),
            ("gap_min_mm = 18.0", "gap_min_mm = 48.5"),
            ("parts_per_s = 20.0", "parts_per_s = 10.0"),
            ("consecutive_rejects = { count = 8, action = \"stop_belt\" }", "")
        ])
    );
}

#[test]
fn edges_of_an_encoder_on_lines() {
    let text = said(&[(
        "source = \"simulated\" ",
        "source = { lines = { a = { chip = \"sim\", name = \"A\" } } } ",
    )]);
    assert!(
        text.contains("simulated or folder camera needs the simulated encoder"),
        "{text}"
    );
    // 4 per mm × 1250 mm/s are too many for lines; reckoned on real lines of a real camera.
    let text = DEFAULT.replace("chip = \"sim\"", "chip = \"gpiochip0\"");
    let text = text
        .replace(
            "source = \"simulated\" ",
            "source = { lines = { a = { chip = \"gpiochip0\", name = \"A\" }, b = { chip = \"gpiochip0\", line = 7 } } } ",
        )
        .replace("source.simulated]", "source.v4l2]\ndevice = \"/dev/video0\"")
        .replace("seed = 1\nparts_per_s = 20.0\ndefective = 0.15", "gain = 3");
    let said = read(&text).expect_err("too many edges").to_string();
    insta::assert_snapshot!(said);
    let slower = text.replace("pulses_per_mm = 4.0", "pulses_per_mm = 1.5");
    let config = read(&slower).unwrap_or_else(|report| panic!("{report}"));
    assert!(matches!(config.cameras[0].source, CameraSource::V4l2(_)));
    assert!(matches!(
        config.belt.motion,
        Motion::Encoder { reverse: false, .. }
    ));
    let turned = slower.replace("pulses_per_mm = 1.5", "reverse = true\npulses_per_mm = 1.5");
    let config = read(&turned).unwrap_or_else(|report| panic!("{report}"));
    assert!(matches!(
        config.belt.motion,
        Motion::Encoder { reverse: true, .. }
    ));
    // A single line makes twice the edges for as many counts.
    let alone = slower.replace(", b = { chip = \"gpiochip0\", line = 7 }", "");
    assert!(
        read(&alone)
            .expect_err("too many edges")
            .to_string()
            .contains("too many edges")
    );
}

#[test]
fn an_encoder_without_direction_cannot_be_turned_round() {
    let text = said(&[("[belt.encoder] ", "[belt.encoder]\nreverse = true # ")]);
    assert!(
        text.contains("`belt.encoder.reverse` needs an encoder that knows its direction"),
        "{text}"
    );
    let lines = DEFAULT.replace(
        "source = \"simulated\" ",
        "reverse = true\nsource = { lines = { a = { chip = \"gpiochip0\", name = \"A\" } } } ",
    );
    let text = read(&lines).expect_err("one line only").to_string();
    assert!(text.contains("always counts forward"), "{text}");
}

#[test]
fn lines_by_number_and_what_holds_them() {
    insta::assert_snapshot!(said(&[
        (
            "acknowledge = { chip = \"sim\", name = \"ACK\" }",
            "acknowledge = { chip = \"sim\", name = \"ACK\", line = 3, bias = \"up\" }"
        ),
        (
            "name = \"REJ1\", safe = \"off\"",
            "line = 70000, bias = \"pull_up\", safe = \"off\""
        ),
        (
            "name = \"PE_CHUTE\"",
            "name = \"A_NAME_LONGER_THAN_ANY_KERNEL_STORES\""
        ),
        ("name = \"PE_PASSED\"", "line = 4"),
        ("name = \"PE_BIN\"", "line = 4"),
    ]));
    let config = read(&changed(&[(
        "name = \"ACK\" }",
        "line = 3, active = \"low\", bias = \"pull_up\" }",
    )]));
    let config = config.unwrap_or_else(|report| panic!("{report}"));
    let acknowledge = config.station.acknowledge.expect("is in the default");
    assert_eq!(acknowledge.name, LineName::Offset(3));
    assert_eq!(acknowledge.bias, Bias::PullUp);
    assert!(acknowledge.active_low);
}

#[test]
fn weak_cores_are_told_apart_from_strong_ones() {
    let level_of = |text: &str, soc| {
        let checked = check_text(text, "default.toml", Path::new("/"), &resolve, Some(soc));
        let network = checked
            .findings
            .into_iter()
            .find(|f| f.title == "network")
            .expect("asked for");
        (network.level, checked.config.is_ok())
    };
    let level = |soc| level_of(DEFAULT, soc);
    assert_eq!(level(Soc::CortexA53), (Level::Error, false));
    assert_eq!(level(Soc::CortexA72), (Level::Warn, true));
    assert_eq!(level(Soc::CortexA76), (Level::Ok, true));
    // Without the excuse every part needs its mask.
    let always = DEFAULT.replace(" unless good >= 0.95", "");
    assert_eq!(level_of(&always, Soc::CortexA72), (Level::Error, false));
    // What docs/INSTALL.md says of the weakest.
    let slower = DEFAULT.replace("parts_per_s = 20.0", "parts_per_s = 10.0");
    let slower = slower.replace("max = 1250.0", "max = 600.0");
    assert_eq!(level_of(&slower, Soc::CortexA53), (Level::Warn, true));
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let said = |name: &str, content: Option<&[u8]>| {
        let path = folder.path().join(name);
        if let Some(content) = content {
            std::fs::write(&path, content).expect("writes to the temporary folder");
        }
        let report = load(&path).expect_err("not a configuration").to_string();
        report.replace(&folder.path().display().to_string(), "DIR")
    };
    insta::assert_snapshot!("missing_file", said("none.toml", None));
    insta::assert_snapshot!("directory", said("", None));
    insta::assert_snapshot!("empty_file", said("empty.toml", Some(b"")));
    insta::assert_snapshot!("comments_alone", said("comments.toml", Some(b"# nothing\n\n")));
    insta::assert_snapshot!(
        "not_utf8",
        said("latin1.toml", Some(b"schema = 1\n[station]\nid = \"K\xfche\"\n"))
    );
    insta::assert_snapshot!("huge_file", said("huge.toml", Some(&vec![b'#'; (1 << 20) + 1])));
    insta::assert_snapshot!("binary_file", said("zip.toml", Some(b"PK\x03\x04\0\0\0")));
}

#[test]
fn nonsense_of_a_megabyte_is_answered_briefly() {
    let keys: String = (0..80_000).map(|i| format!("a{i} = {i}\n")).collect();
    assert!(read(&keys).expect_err("nonsense").to_string().len() < 200_000);
    for line in ["[", "a=1\n", "{{{{", "\"", "[a.b]\n", "x = [[[[", "=\n"] {
        let text = line.repeat((1 << 20) / line.len());
        let report = read(&text).expect_err("nonsense").to_string();
        assert!(report.len() < 200_000, "{line:?}: {} bytes", report.len());
    }
}

#[test]
fn a_byte_order_mark_is_no_mistake() {
    read(&format!("\u{feff}{DEFAULT}")).unwrap_or_else(|report| panic!("{report}"));
}

#[test]
fn two_recipes() {
    let (_, recipe) = DEFAULT
        .split_once("[recipe.cap-28mm]")
        .expect("is in the default");
    let (recipe, _) = recipe.split_once("[record]").expect("is in the default");
    let text = format!("{DEFAULT}\n[recipe.second]{recipe}");
    let config = read(&text).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(config.recipes.len(), 2);
    assert_eq!(config.recipes[1].name, "second");
    let checked = check_text(&text, "elek.toml", Path::new("/"), &resolve, None);
    assert!(
        checked
            .findings
            .iter()
            .any(|f| f.title == "gap" && f.numbers.starts_with("second: "))
    );
}

#[test]
fn one_camera_and_one_reject() {
    let second = "\n[camera.side]\nmm_per_px = 0.1\n[reject.second]\ndistance_mm = 1.0\n";
    insta::assert_snapshot!(
        read(&format!("{DEFAULT}{second}"))
            .expect_err("one too many")
            .to_string()
    );
}

#[test]
fn a_folder_of_pictures() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = changed(&[
        (
            "[camera.top.source.simulated]           # or .folder, .v4l2\nseed = 1\nparts_per_s = 20.0\ndefective = 0.15 ",
            "[camera.top.source.folder]\npath = \"pictures\"\nparts_per_s = 5 ",
        ),
        (
            "exposure_us = 80\nformat = { fourcc = \"YUYV\", width = 640, height = 480, fps = 60 }",
            "",
        ),
        ("mode = \"triggered\"", ""),
        (
            "around = \"part\", margin_mm = 4.0",
            "around = \"picture\", fit = \"letterbox\"",
        ),
    ]);
    // A whole picture has larger mask pixels, so the limits have to be larger too.
    let text = text.replace("<= 0.8", "<= 8.0").replace("> 0.8", "> 8.0");
    let read = || check_text(&text, "elek.toml", folder.path(), &resolve, None);
    let missing = read().config.expect_err("no folder").to_string();
    assert!(missing.contains("does not exist"), "{missing}");
    std::fs::create_dir(folder.path().join("pictures")).expect("creates a folder");
    let empty = read();
    assert!(
        empty
            .findings
            .iter()
            .any(|f| f.level == Level::Warn && f.title == "mask pixels")
    );
    image::GrayImage::new(640, 400)
        .save(folder.path().join("pictures/a.png"))
        .expect("writes a picture");
    let full = read();
    let config = full.config.unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(config.cameras[0].mode, CameraMode::Triggered);
    let mask = full
        .findings
        .iter()
        .find(|f| f.title == "mask pixels")
        .expect("reckoned");
    // 640 px × 0.12 mm over 224 mask pixels are 0.343 mm each.
    assert!(mask.numbers.contains("0.343 mm"), "{}", mask.numbers);
}

#[test]
fn an_inference_has_a_processor_for_each_of_its_threads() {
    let text = format!("{DEFAULT}\n[inference]\nthreads = 4\n");
    let checked = check_text(&text, "elek.toml", Path::new("/"), &resolve, Some(Soc::CortexA72));
    let config = checked.config.unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(config.inference.threads, 4);
    let of = |processors| {
        let facts = Facts {
            processors,
            ..Facts::default()
        };
        let findings = arithmetic::check(&config, &facts).into_iter();
        findings
            .filter(|f| f.title == "inference threads")
            .collect::<Vec<_>>()
    };
    // The processors of another box are not known.
    assert!(of(None).is_empty());
    assert_eq!(of(Some(4))[0].level, Level::Ok);
    let [finding] = &of(Some(3))[..] else { panic!() };
    assert_eq!(
        (finding.level, &finding.key[..], &finding.advice[..]),
        (
            Level::Error,
            "inference.threads",
            "write at most 3; for another box than this one, name its core with --soc"
        )
    );
    let report =
        read(&format!("{DEFAULT}\n[inference]\nthreads = 0\nthread = 2\n")).expect_err("two mistakes");
    insta::assert_snapshot!(report.to_string());
}
