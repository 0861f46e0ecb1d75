//! `[camera.NAME]` and its source.

use super::super::diagnostic::Problem;
use super::super::raw::{At, Section, Value};
use super::super::*;
use super::{Context, MM_MAX, MS_MAX, device_path, mm, ms};
use crate::vision::frame::PixelFormat;

/// Largest side of a picture: places in it are kept in 16 bits, and no camera of
/// this class has more.
const SIDE_MAX: i64 = 8192;

const FOURCC: [(&str, PixelFormat); 14] = [
    ("YUYV", PixelFormat::Yuyv),
    ("UYVY", PixelFormat::Uyvy),
    ("NV12", PixelFormat::Nv12),
    ("GREY", PixelFormat::Grey),
    ("Y10", PixelFormat::Y10),
    ("Y16", PixelFormat::Y16),
    ("RGB3", PixelFormat::Rgb3),
    ("BGR3", PixelFormat::Bgr3),
    ("MJPG", PixelFormat::Mjpg),
    ("RGGB", PixelFormat::BayerRggb),
    ("BGGR", PixelFormat::BayerBggr),
    // V4L2's own name for 8-bit BGGR.
    ("BA81", PixelFormat::BayerBggr),
    ("GRBG", PixelFormat::BayerGrbg),
    ("GBRG", PixelFormat::BayerGbrg),
];

pub(super) fn camera(name: &At<String>, s: &Section<'_>, vision: bool, cx: &Context<'_>) -> Option<Camera> {
    let mm_per_px = s.required("mm_per_px", "mm_per_px = 0.12", |v| v.number(0.000_5..=10.0));
    let belt_axis = s.required("belt_axis", "belt_axis = \"+x\"", |v| {
        v.choice(&[
            ("+x", BeltAxis::PlusX),
            ("-x", BeltAxis::MinusX),
            ("+y", BeltAxis::PlusY),
            ("-y", BeltAxis::MinusY),
        ])
    });
    let distance = distance(s, vision);
    let stamp = s.or("stamp", (Micros::ZERO, Micros::ZERO), stamp);
    let on_lost = s.or(
        "on_lost",
        (Micros::from_millis(500), Micros::from_millis(2_000)),
        on_lost,
    );
    let readout = s.optional("readout_ms", |v| v.number(0.0..=1_000.0));
    let locate = s.or("locate", DEFAULT_LOCATE, locate);
    let source = match s.get("source") {
        Some(value) => value.section().and_then(|s| source(&s, cx)),
        None => {
            s.missing("source", &format!("[{}.source.v4l2]", s.path));
            None
        }
    };
    let mode = mode(s, source.as_ref().map(|(source, _)| source), vision);
    let (stamp_offset, stamp_jitter) = stamp?;
    let (retry, stop_after) = on_lost?;
    let (source, exposure) = source?;
    Some(Camera {
        name: name.value.clone(),
        um_per_px: mm_per_px?.value * 1_000.0,
        belt_axis: belt_axis?.value,
        distance: distance?,
        stamp_offset,
        stamp_jitter,
        retry,
        stop_after,
        mode: mode?,
        locate: locate?,
        exposure,
        readout: readout?.map(|at| ms(at.value)),
        source,
    })
}

/// Photo-eye to picture centre. Without a photo-eye the picture centre is position zero.
fn distance(s: &Section<'_>, vision: bool) -> Option<Length> {
    if !vision {
        return s
            .required("distance_mm", "distance_mm = 35.0", |v| {
                v.number(-MM_MAX..=MM_MAX)
            })
            .map(|at| mm(at.value));
    }
    s.or("distance_mm", Length::ZERO, |v| {
        if v.number(-MM_MAX..=MM_MAX)? == 0.0 {
            return Some(Length::ZERO);
        }
        v.refuse(
            format!("`{}` must be 0 without a photo-eye", v.path),
            "with trigger.vision the picture centre is where distances start",
            "write 0 or delete the line, and measure the reject's distance_mm from the picture centre",
        );
        None
    })
}

fn stamp(v: &Value<'_>) -> Option<(Micros, Micros)> {
    let s = v.section()?;
    let offset = s.or("offset_us", 0, |v| v.integer(-1_000_000..=1_000_000));
    let jitter = s.or("jitter_us", 0, |v| v.integer(0..=1_000_000));
    Some((Micros::new(offset?), Micros::new(jitter?)))
}

fn on_lost(v: &Value<'_>) -> Option<(Micros, Micros)> {
    let s = v.section()?;
    let retry = s.or("retry_ms", 500.0, |v| v.number(1.0..=MS_MAX));
    let stop = s.or("stop_after_ms", 2_000.0, |v| v.number(1.0..=MS_MAX));
    Some((ms(retry?), ms(stop?)))
}

/// In force only where nothing is located: see [`locate_is_there`].
const DEFAULT_LOCATE: Locate = Locate {
    contrast: Contrast::PartBrighter,
    threshold: None,
};

fn locate(v: &Value<'_>) -> Option<Locate> {
    let s = v.section()?;
    let contrast = s.required("contrast", "contrast = \"part_brighter\"", |v| {
        v.choice(&[
            ("part_brighter", Contrast::PartBrighter),
            ("part_darker", Contrast::PartDarker),
        ])
    });
    let threshold = s.optional("threshold", |v| v.integer(1..=254));
    let threshold = threshold?.and_then(|at| u8::try_from(at.value).ok());
    Some(Locate {
        contrast: contrast?.value,
        threshold,
    })
}

/// Whether parts are brighter or darker than the belt cannot be guessed.
pub(super) fn locate_is_there(root: &Section<'_>, camera: &Camera, needed: bool, cx: &Context<'_>) {
    let needed = needed || matches!(camera.mode, CameraMode::FreeRunning { .. });
    let path = format!("camera.{}", camera.name);
    if !needed || root.written(&format!("{path}.locate")) {
        return;
    }
    let mut problem = Problem::new(format!("`{path}.locate` is missing"))
        .help("add `locate = { contrast = \"part_brighter\" }`, or \"part_darker\"");
    if let Some(span) = root.place(&path) {
        problem = problem.at(span, "the part has to be found in the picture");
    }
    problem.missing = true;
    cx.problems.add(problem);
}

fn mode(s: &Section<'_>, source: Option<&CameraSource>, vision: bool) -> Option<CameraMode> {
    let given = s.optional("mode", |v| {
        v.choice(&[("triggered", true), ("free_running", false)])
    })?;
    let source = source?;
    // Pictures of a folder come one a part unless they are told to be a beat of their own.
    let default = matches!(source, CameraSource::Folder(_)) && !vision;
    let triggered = given.as_ref().map_or(default, |at| at.value);
    if triggered && vision {
        let problem = Problem::new("a triggered camera needs a photo-eye")
            .at(given?.span, "nothing triggers it")
            .help("delete this line (the camera then runs freely), or give [trigger] a line");
        s.problems.add(problem);
        return None;
    }
    if triggered {
        return Some(CameraMode::Triggered);
    }
    let fps_milli = match source {
        CameraSource::Simulated(simulated) => simulated.format.fps_milli,
        CameraSource::V4l2(v4l2) => v4l2.format.fps_milli,
        CameraSource::Folder(folder) => (folder.parts_per_s * 1_000.0).round() as u32,
    };
    Some(CameraMode::FreeRunning { fps_milli })
}

fn source(s: &Section<'_>, cx: &Context<'_>) -> Option<(CameraSource, Micros)> {
    let kinds = ["simulated", "folder", "v4l2"];
    match s.one_of(&kinds, &format!("[{}.v4l2], .folder or .simulated", s.path))? {
        ("simulated", v) => simulated(&v.section()?),
        ("folder", v) => folder(&v.section()?, cx),
        (_, v) => v4l2(&v.section()?),
    }
}

fn parts_per_s(s: &Section<'_>) -> Option<At<f64>> {
    s.required("parts_per_s", "parts_per_s = 10.0", |v| v.number(0.01..=1_000.0))
}

fn exposure(s: &Section<'_>) -> Option<Option<At<i64>>> {
    s.optional("exposure_us", |v| v.integer(1..=1_000_000))
}

fn simulated(s: &Section<'_>) -> Option<(CameraSource, Micros)> {
    let seed = s.or("seed", 1, |v| v.integer(0..=i64::MAX));
    let rate = parts_per_s(s);
    let defective = s.or("defective", 0.1, |v| v.number(0.0..=1.0));
    let format = format(s);
    let exposure = exposure(s);
    let source = SimulatedSource {
        seed: u64::try_from(seed?).ok()?,
        parts_per_s: rate?.value,
        defective: defective?,
        format: format?,
    };
    Some((
        CameraSource::Simulated(source),
        Micros::new(exposure?.map_or(0, |at| at.value)),
    ))
}

fn folder(s: &Section<'_>, cx: &Context<'_>) -> Option<(CameraSource, Micros)> {
    let path = s.required("path", "path = \"pictures\"", |v| {
        let path = cx.base.join(v.text()?);
        if !path.is_dir() {
            let what = if path.exists() {
                "is not a folder"
            } else {
                "does not exist"
            };
            v.refuse(
                format!("the folder {} {what}", path.display()),
                what,
                "name a folder with .jpg or .png pictures (relative paths start at the configuration file)",
            );
            return None;
        }
        Some(path)
    });
    let rate = parts_per_s(s);
    let repeat = s.or("repeat", false, Value::flag);
    let exposure = exposure(s);
    let source = FolderSource {
        path: path?.value,
        parts_per_s: rate?.value,
        repeat: repeat?,
    };
    Some((
        CameraSource::Folder(source),
        Micros::new(exposure?.map_or(0, |at| at.value)),
    ))
}

fn v4l2(s: &Section<'_>) -> Option<(CameraSource, Micros)> {
    let device = s.required("device", "device = \"/dev/v4l/by-path/…\"", |v| {
        device_path(v, "/dev/v4l/by-path/…")
    });
    let format = format(s);
    // Automatic exposure changes blur and mid-exposure behind the station's back.
    let exposure = s.required("exposure_us", "exposure_us = 180", |v| v.integer(1..=1_000_000));
    let set_exposure = s.or("set_exposure", true, Value::flag);
    let gain = s.optional("gain", |v| v.integer(i64::from(i32::MIN)..=i64::from(i32::MAX)));
    let power_line = s.optional("power_line", |v| {
        v.choice(&[
            ("50hz", PowerLine::Hz50),
            ("60hz", PowerLine::Hz60),
            ("off", PowerLine::Off),
        ])
    });
    let controls = s.or("controls", Vec::new(), controls);
    let exposure = exposure?.value;
    let source = V4l2Source {
        device: device?.value,
        format: format?,
        exposure_us: u32::try_from(exposure).ok()?,
        set_exposure: set_exposure?,
        gain: gain?.and_then(|at| i32::try_from(at.value).ok()),
        power_line: power_line?.map(|at| at.value),
        controls: controls?,
    };
    Some((CameraSource::V4l2(source), Micros::new(exposure)))
}

/// Controls by whatever name the driver gives them; only the camera itself knows which there are.
fn controls(v: &Value<'_>) -> Option<Vec<ControlSetting>> {
    let entries = v.section()?.entries();
    let given = entries.len();
    let read = |(name, v): (At<String>, Value<'_>)| {
        let value = v.control()?;
        Some(ControlSetting {
            name: name.value,
            value,
        })
    };
    let read: Vec<ControlSetting> = entries.into_iter().filter_map(read).collect();
    (read.len() == given).then_some(read)
}

fn format(s: &Section<'_>) -> Option<PictureFormat> {
    let example = "format = { fourcc = \"GREY\", width = 1280, height = 960, fps = 60 }";
    s.required("format", example, |v| {
        let s = v.section()?;
        let pixels = s.required("fourcc", "fourcc = \"GREY\"", |v| v.choice(&FOURCC));
        let width = s.required("width", "width = 1280", |v| v.integer(16..=SIDE_MAX));
        let height = s.required("height", "height = 960", |v| v.integer(16..=SIDE_MAX));
        let fps = s.required("fps", "fps = 60", |v| v.number(0.1..=1_000.0));
        let (pixels, width, height) = (pixels?.value, width?, height?);
        even_sides(&s, pixels, &width, &height)?;
        Some(PictureFormat {
            pixels,
            width: u32::try_from(width.value).ok()?,
            height: u32::try_from(height.value).ok()?,
            fps_milli: (fps?.value * 1_000.0).round() as u32,
        })
    })
    .map(|at| at.value)
}

/// Formats whose colour is shared by neighbouring pixels have no odd sides.
fn even_sides(s: &Section<'_>, pixels: PixelFormat, width: &At<i64>, height: &At<i64>) -> Option<()> {
    use PixelFormat::*;
    let (even_width, even_height) = match pixels {
        Yuyv | Uyvy => (true, false),
        Nv12 | BayerRggb | BayerBggr | BayerGrbg | BayerGbrg => (true, true),
        Grey | Y10 | Y16 | Rgb3 | Bgr3 | Mjpg => (false, false),
    };
    for (side, must_be_even) in [(width, even_width), (height, even_height)] {
        if must_be_even && side.value % 2 != 0 {
            let problem = Problem::new("this pixel format needs even sides")
                .at(side.span.clone(), "odd")
                .help("its colours are shared by two neighbouring pixels: use an even number");
            s.problems.add(problem);
            return None;
        }
    }
    Some(())
}
