//! The controls of a real USB camera's driver: what reaches the camera when it is opened.

mod vm;
#[path = "vm/webcam.rs"]
mod webcam;

use elek::config::{PictureFormat, PowerLine, V4l2Source};
use elek::device::camera::{V4l2Camera, describe};
use elek::vision::frame::PixelFormat;
use webcam::{AUTOMATIC, EXPOSURE_MODE, EXPOSURE_TIME, GAIN, MANUAL, POWER_LINE, Webcam};

fn source(camera: &Webcam) -> V4l2Source {
    V4l2Source {
        device: camera.device.clone(),
        format: PictureFormat {
            pixels: PixelFormat::Mjpg,
            width: 640,
            height: 360,
            fps_milli: 10_000,
        },
        exposure_us: 5_000,
        set_exposure: true,
        gain: Some(20),
        power_line: Some(PowerLine::Hz50),
        controls: Vec::new(),
    }
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn exposure_gain_and_power_line_reach_the_camera() {
    let camera = Webcam::plug_in(MANUAL | AUTOMATIC);
    assert_eq!(camera.value(EXPOSURE_MODE), AUTOMATIC);
    let opened = V4l2Camera::open(&source(&camera)).expect("it opens");
    assert_eq!(opened.about().driver, "uvcvideo");
    let told = [EXPOSURE_MODE, EXPOSURE_TIME, GAIN, POWER_LINE].map(|of| camera.value(of));
    assert_eq!(told, [MANUAL, 50, 20, 1]);
    drop(opened);
    let description = describe::describe(&camera.device).expect("it can be asked");
    let time = description
        .controls
        .iter()
        .find(|control| control.name.contains("Exposure Time"));
    assert_eq!(
        time.and_then(|control| control.value),
        Some(50),
        "{description:#?}"
    );
}

#[test]
#[ignore = "needs the virtual machine: make test-vm"]
fn what_the_camera_cannot_do_is_said() {
    let camera = Webcam::plug_in(MANUAL | AUTOMATIC);
    let said = |change: &dyn Fn(&mut V4l2Source)| {
        let mut source = source(&camera);
        change(&mut source);
        let error = V4l2Camera::open(&source).expect_err("refused").to_string();
        println!("{error}");
        error
    };
    let short = said(&|s| s.exposure_us = 120);
    assert!(short.contains("Write `exposure_us = 200`"), "{short}");
    let loud = said(&|s| s.gain = Some(101));
    assert!(loud.contains("`Gain` cannot be 101: it takes 0 to 100"), "{loud}");
    drop(camera);
    let automatic = Webcam::plug_in(AUTOMATIC);
    let error = V4l2Camera::open(&source(&automatic))
        .expect_err("refused")
        .to_string();
    assert!(error.contains("cannot be switched off"), "{error}");
}
