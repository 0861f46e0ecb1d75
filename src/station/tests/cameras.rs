//! Pictures that are late, lost, doubled, or come by triggers of their own.

use super::*;

#[test]
fn without_pictures_every_part_is_rejected() {
    let mut rig = Rig::new();
    rig.camera_on = false;
    rig.lay(50, true);
    rig.run(1_500);
    assert_eq!(rig.verdicts(), [(1, Verdict::NoResult(NoResult::NoFrame))]);
    assert_eq!(rig.fates(), [(1, Fate::Confirmed)]);
    assert_eq!(rig.counts().late, 0, "there was nothing to be late");
}

#[test]
fn a_duplicate_frame_is_told_and_not_judged_twice() {
    let mut rig = Rig::new();
    rig.lay(50, true);
    rig.run(300);
    let frame = FrameSeen {
        camera: crate::units::CameraId(0),
        frame: crate::units::FrameId(9_999),
        sequence: 24,
        mid_exposure: rig.at(),
        width: 1_280,
        height: 960,
        blobs: Default::default(),
    };
    rig.event(Event::Frame(frame));
    rig.run(1_200);
    assert!(rig.entries().any(|e| matches!(
        e,
        Entry::Stray {
            stray: Stray::DuplicateFrame,
            ..
        }
    )));
    assert_eq!(rig.fates(), [(1, PASSED)]);
    assert!(rig.released.contains(&crate::units::FrameId(9_999)));
}

#[test]
fn the_camera_alone_can_announce_parts() {
    let mut config = testing::config();
    config.trigger = Trigger::Vision;
    let mut rig = Rig::with(config);
    for (i, good) in [true, false, true].into_iter().enumerate() {
        rig.lay(80 + 40 * i as i64, good);
    }
    rig.run(1_800);
    assert_eq!(rig.fates(), [(1, PASSED), (2, Fate::Confirmed), (3, PASSED)]);
}

fn triggered() -> Rig {
    let mut config = testing::config();
    config.cameras[0].mode = CameraMode::Triggered;
    Rig::with(config)
}

#[test]
fn a_triggered_camera_gives_each_trigger_its_frame() {
    let mut rig = triggered();
    for (i, good) in [true, false, true, true].into_iter().enumerate() {
        rig.lay(50 + 40 * i as i64, good);
    }
    rig.run(1_800);
    let fates: Vec<_> = rig.fates().into_iter().map(|(_, fate)| fate).collect();
    assert_eq!(fates, [PASSED, Fate::Confirmed, PASSED, PASSED]);
}

#[test]
fn a_frame_lost_by_a_triggered_camera_is_accounted_to_its_part() {
    let (lost, pass) = (Verdict::NoResult(NoResult::NoFrame), Verdict::Pass);
    // Whether the very first frame is lost, or one in the middle that a gap tells of.
    for (before, expected) in [(200, [lost, pass, pass, pass]), (400, [pass, pass, lost, pass])] {
        let mut rig = triggered();
        for i in 0..4 {
            rig.lay(50 + 40 * i, true);
        }
        rig.run(before);
        rig.lose_frames = 1;
        rig.run(1_800 - before);
        let mut verdicts = rig.verdicts();
        verdicts.sort_by_key(|(part, _)| *part);
        let verdicts: Vec<_> = verdicts.into_iter().map(|(_, verdict)| verdict).collect();
        assert_eq!(verdicts, expected);
        assert!(!rig.alarms().contains(&AlarmKind::EncoderSlip));
    }
}

#[test]
fn a_frame_without_a_trigger_does_not_shift_the_others() {
    let mut rig = triggered();
    rig.run(50);
    rig.blind = true;
    rig.lay(20, false); // exposes, but the photo-eye announces nothing
    rig.run(200);
    rig.blind = false;
    rig.lay(50, true);
    rig.run(1_500);
    assert!(rig.entries().any(|e| matches!(
        e,
        Entry::Stray {
            stray: Stray::FrameWithoutTrigger,
            ..
        }
    )));
    assert_eq!(rig.verdicts()[0], (1, Verdict::Pass));
}

/// Something went by the photo-eye that was no part, and had no frame. The frame of each part then goes to
/// the one before it, which is at the picture's border, beside the rest of another.
#[test]
fn frames_that_are_out_of_step_with_their_triggers_come_into_step_again() {
    let mut rig = triggered();
    rig.run(50);
    for active in [true, false] {
        let (input, at) = (Input::PhotoEye(LaneId(0)), rig.at());
        rig.event(Event::Edge { input, active, at });
        rig.run(40);
    }
    for i in 0..14 {
        let zero = rig.position - 40_000 + 45_500 * (i + 1);
        let (length, good, removed) = (30_000, true, false);
        rig.things.push(testing::rig::Thing {
            zero,
            length,
            good,
            removed,
        });
    }
    rig.run(1_800);
    let passed = |part: u64| rig.verdicts().contains(&(part, Verdict::Pass));
    assert!((8..=14).all(passed), "{:?}", rig.verdicts());
}
