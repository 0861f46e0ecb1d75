//! What goes wrong on the line and around the core, and what the station does about it.

use super::*;

#[test]
fn a_part_that_the_photo_eye_missed_stops_the_belt() {
    let mut rig = Rig::new();
    rig.lay(100, true);
    rig.blind = true;
    rig.run(400);
    let strays = rig.entries().filter(|e| matches!(e, Entry::Stray { .. })).count();
    assert_eq!(strays, 1, "told once, not with every frame");
    assert_eq!(rig.alarms(), [AlarmKind::PartWithoutTrigger]);
    assert!(!rig.permit());
}

#[test]
fn lost_outputs_stop_the_belt_and_what_was_planned_is_told_again() {
    let mut rig = Rig::new();
    rig.lay(50, false);
    rig.run(850);
    assert_eq!(rig.fires().len(), 1);
    rig.event(Event::OutputsReady(false));
    assert!(!rig.permit());
    rig.run(20);
    rig.event(Event::OutputsReady(true));
    rig.run(10);
    assert!(rig.fires().len() > 1, "the new process knows nothing of it");
    let levels = rig
        .log
        .iter()
        .filter(|a| matches!(a, Action::Set { output: PERMIT, .. }))
        .count();
    assert!(levels >= 3);
    rig.run(700);
    assert_eq!(rig.fates(), [(1, Fate::Confirmed)]);
    assert!(!rig.permit(), "a person has to acknowledge");
}

/// A belt that may be as slow as a count in a quarter of a second stops in front of the reject. Until it is known to
/// stand, no reject is fired for a place that the belt would have reached at its last speed.
#[test]
fn a_belt_that_may_be_slow_and_stops_fires_nothing() {
    let mut config = testing::config();
    config.belt.speed_min = Speed::from_um_per_s(1_000);
    let mut rig = Rig::with(config);
    rig.lay(50, false);
    // 40 to 150 mm in front of the reject: what it would have come to within the silence, and before that.
    let mut ran = 0;
    for before in (40..150).rev().step_by(10) {
        let to = 50 + 420 - before;
        rig.speed = 500_000;
        rig.run((to - ran) * 2);
        ran = to;
        rig.speed = 0;
        rig.run(1_000);
        let pulses = rig.entries().filter(|e| matches!(e, Entry::Fired { .. })).count();
        assert_eq!(
            (pulses, rig.station.belt.stands(rig.at())),
            (0, true),
            "{before} mm before it"
        );
    }
    rig.speed = 500_000;
    rig.run(700);
    assert_eq!(rig.fates(), [(1, Fate::Confirmed)]);
    assert_eq!(rig.alarms(), []);
}

#[test]
fn a_refused_pulse_is_a_fault_and_its_part_is_looked_for() {
    let mut rig = Rig::new();
    rig.actuator_works = false;
    rig.lay(50, false);
    rig.run(850);
    let pulse = rig.fires()[0].pulse;
    let report = PulseReport::Refused(PulseRefusal::Full);
    rig.event(Event::Pulse { pulse, report });
    assert_eq!(rig.alarms(), [AlarmKind::PulseFault]);
    rig.run(700);
    assert_eq!(rig.fates(), [(1, Fate::Escaped)]);
}

#[test]
fn a_jump_of_the_encoder_voids_all_positions() {
    let mut rig = Rig::new();
    rig.lay(50, false);
    rig.lay(100, true);
    rig.run(500);
    rig.slipped = -40_000;
    rig.run(10);
    let lost = Fate::Unaccounted(Unaccounted::LostPosition);
    assert_eq!(rig.fates(), [(1, lost), (2, lost)]);
    assert_eq!(rig.alarms(), [AlarmKind::EncoderSlip]);
    assert!(!rig.permit());
    // After clearing and acknowledging it goes on as before.
    rig.things.clear();
    rig.event(Event::Command(Command::Acknowledge));
    rig.lay(50, true);
    rig.run(1_500);
    assert_eq!(rig.fates()[2], (3, PASSED));
}

/// The belt moved too little, by its counts, for a next part. They say nothing any more.
#[test]
fn after_a_jump_of_the_encoder_the_next_part_is_not_taken_for_the_last() {
    let mut rig = Rig::new();
    rig.lay(50, false);
    rig.run(104);
    assert_eq!(rig.counts().seen, 1);
    rig.slipped = -40_000;
    rig.run(4);
    assert_eq!(rig.alarms(), [AlarmKind::EncoderSlip]);
    rig.things.clear();
    rig.speed = 0;
    rig.run(200);
    rig.event(Event::Command(Command::Acknowledge));
    rig.speed = 500_000;
    rig.lay(2, true);
    rig.run(1_500);
    assert_eq!(rig.counts().seen, 2);
    assert_eq!(rig.fates()[1], (2, PASSED));
}

/// By its input the belt has stopped; who was held up hears of it late, and then knows it at once.
#[test]
fn a_belt_that_is_known_by_its_input_stands_from_the_stamp_on() {
    let mut config = testing::config();
    let speed = Speed::from_um_per_s(500_000);
    config.belt.motion = Motion::Time { speed };
    let mut rig = Rig::with(config);
    let (input, at) = (Input::BeltRunning, rig.at());
    let active = true;
    rig.event(Event::Edge { input, active, at });
    rig.run(100);
    rig.now += 300_000;
    let (active, at) = (false, Instant::from_micros(rig.now - 250_000));
    rig.event(Event::Edge { input, active, at });
    let stands = rig.station.belt.position_at(at);
    assert_eq!(rig.station.belt.position_at(rig.at()), stands);
}

/// The bad part falls first, the good one behind it a little later; neither has passed yet.
#[test]
fn what_fell_before_a_jump_of_the_encoder_fell_as_it_was_judged() {
    let mut rig = Rig::new();
    rig.lay(50, false);
    rig.lay(50, true);
    rig.things[1].zero += 28_500;
    rig.run(1_100);
    assert_eq!(rig.fates(), []);
    rig.slipped = -40_000;
    rig.run(10);
    assert_eq!(rig.fates(), [(1, Fate::Confirmed), (2, Fate::Collateral)]);
}

/// The process hangs while the belt carries a part from before the reject to the passed
/// eye; what it hears afterwards is so old that the belt seems to stand.
#[test]
fn a_part_carried_past_the_reject_undecided_has_not_passed() {
    let mut rig = Rig::new();
    rig.camera_on = false;
    rig.lay(50, true);
    rig.run(300);
    let (hung, from) = (rig.now, rig.position);
    rig.now += 920_000;
    let stamp = |ms: i64| Instant::from_micros(hung + ms * 1_000);
    for ms in (5..=845).step_by(5) {
        let counts = (from + 500 * ms) * 4 / 1_000;
        let (lane, at) = (LaneId(0), stamp(ms));
        rig.event(Event::Encoder { lane, counts, at });
    }
    for (active, at) in [(true, stamp(840)), (false, stamp(890))] {
        let input = Input::PassedEye;
        rig.event(Event::Edge { input, active, at });
    }
    (rig.position, rig.speed) = (from + 500 * 845, 0);
    rig.things.clear();
    rig.run(20);
    assert_eq!(rig.verdicts(), [(1, Verdict::NoResult(NoResult::NoFrame))]);
    assert_eq!(rig.fates(), [(1, Fate::Escaped)]);
}

/// The belt comes to rest between the pulse's beginning and the part's arrival. The line
/// may not be on for as long as the belt stands; the part is still rejected afterwards.
#[test]
fn a_part_that_stood_before_a_cut_pulse_is_rejected_by_the_next() {
    let mut rig = Rig::new();
    rig.lay(50, false);
    rig.run(938);
    rig.speed = 0;
    rig.run(1_000);
    assert_eq!(rig.alarms(), [AlarmKind::PulseFault]);
    assert_eq!(rig.fates(), []);
    rig.speed = 500_000;
    rig.run(500);
    assert_eq!(rig.fates(), [(1, Fate::Confirmed)]);
}

/// Both edges of something too short for a part wait for a process that hangs.
#[test]
fn noise_that_waited_for_the_process_is_not_a_part() {
    for between in [false, true] {
        let mut rig = Rig::new();
        rig.run(50);
        let blip = rig.now + 10_000;
        rig.now += 100_000;
        let input = Input::PhotoEye(LaneId(0));
        for (active, at) in [(true, blip), (false, blip + 100)] {
            let at = Instant::from_micros(at);
            rig.event(Event::Edge { input, active, at });
            if between {
                rig.event(Event::Tick);
            }
        }
        rig.run(500);
        assert_eq!(rig.counts().seen, 0);
    }
}

#[test]
fn creeping_slip_is_found_out() {
    for per_mille in [-30, -80, 30, 80] {
        let mut rig = Rig::new();
        for i in 0..30 {
            rig.lay(50 + 60 * i, true);
        }
        for _ in 0..2_000 {
            rig.run(1);
            rig.slipped += per_mille * 500 / 1_000;
        }
        assert!(
            rig.alarms().contains(&AlarmKind::EncoderSlip),
            "{per_mille}: {:?}",
            rig.alarms()
        );
        assert!(
            rig.entries()
                .any(|e| matches!(e, Entry::Permit { on: false, .. }))
        );
    }
}

#[test]
fn an_encoder_that_stands_while_parts_pass_is_found_out() {
    let mut rig = Rig::new();
    rig.run(100);
    // The shaft broke: the belt runs on, the counts do not.
    for i in 0..8 {
        rig.lay(20 + 60 * i, true);
    }
    for _ in 0..1_000 {
        rig.slipped -= 500;
        rig.run(1);
    }
    assert!(
        rig.alarms().contains(&AlarmKind::EncoderSlip),
        "{:?}",
        rig.alarms()
    );
    assert!(!rig.permit());
}

#[test]
fn a_full_bin_stops_the_belt_after_its_time_and_needs_emptying() {
    let mut rig = Rig::new();
    rig.event(Event::Edge {
        input: Input::BinFull,
        active: true,
        at: rig.at(),
    });
    rig.run(3_900);
    assert!(rig.permit());
    rig.run(200);
    assert!(!rig.permit());
    rig.event(Event::Command(Command::Acknowledge));
    assert!(!rig.permit(), "it is still full");
    rig.event(Event::Edge {
        input: Input::BinFull,
        active: false,
        at: rig.at(),
    });
    rig.run(4_100);
    assert!(!rig.permit(), "nobody has acknowledged since");
    rig.event(Event::Command(Command::Acknowledge));
    assert!(rig.permit());
}

#[test]
fn many_rejects_in_a_row_stop_the_belt() {
    let mut rig = Rig::new();
    for i in 0..5 {
        rig.lay(50 + 60 * i, false);
    }
    rig.run(600);
    assert!(rig.permit());
    rig.run(150);
    assert_eq!(rig.alarms(), [AlarmKind::ConsecutiveRejects]);
    assert!(!rig.permit());
}

#[test]
fn a_lost_camera_stops_the_belt_only_after_its_patience() {
    let mut rig = Rig::new();
    let camera = crate::units::CameraId(0);
    rig.event(Event::CameraLost { camera, lost: true });
    rig.run(1_900);
    assert!(rig.permit());
    rig.run(200);
    assert!(!rig.permit());
    rig.event(Event::CameraLost { camera, lost: false });
    rig.event(Event::Command(Command::Acknowledge));
    assert!(rig.permit());
}

#[test]
fn a_belt_that_runs_on_without_permit_is_an_alarm() {
    let mut rig = Rig::new();
    rig.event(Event::Trouble {
        trouble: Trouble::Queue,
        present: true,
    });
    rig.run(150);
    assert_eq!(rig.station.view(rig.at()).state, State::Coasting);
    assert_eq!(rig.alarms(), [AlarmKind::Trouble(Trouble::Queue)]);
    rig.run(200);
    assert!(rig.alarms().contains(&AlarmKind::BeltSpeed));
    rig.speed = 0;
    rig.run(100);
    assert_eq!(rig.station.view(rig.at()).state, State::Stopped);
}

#[test]
fn too_fast_a_belt_is_an_alarm() {
    let mut rig = Rig::new();
    rig.speed = 700_000;
    rig.run(300);
    assert_eq!(rig.alarms(), [AlarmKind::BeltSpeed]);
    assert!(!rig.permit());
}

#[test]
fn a_disk_that_fails_does_not_stop_the_belt() {
    let mut rig = Rig::new();
    rig.event(Event::Trouble {
        trouble: Trouble::Record,
        present: true,
    });
    rig.run(100);
    assert!(rig.permit());
    assert_eq!(rig.alarms(), [AlarmKind::Trouble(Trouble::Record)]);
}

/// `strays` things fall when nothing was rejected, and two rejected parts do not fall in their time.
fn falls_off_its_times(strays: usize) -> Rig {
    let mut config = testing::config();
    config.verify.passed = None;
    if let Some(chute) = &mut config.verify.chute {
        chute.missing = CheckAction::Alarm;
    }
    let mut rig = Rig::with(config);
    rig.actuator_works = false;
    rig.lay(50, false);
    rig.lay(150, false);
    rig.run(500);
    for _ in 0..strays {
        for active in [true, false] {
            let at = rig.at();
            let input = Input::ChuteEye;
            rig.event(Event::Edge { input, active, at });
            rig.run(40);
        }
    }
    rig.run(1_500);
    rig
}

/// Time and again the reject acts on another place than the one it was meant for.
#[test]
fn parts_that_fall_at_other_times_than_their_rejects_say_that_positions_are_wrong() {
    let rig = falls_off_its_times(2);
    assert!(
        rig.alarms().contains(&AlarmKind::EncoderSlip),
        "{:?}",
        rig.alarms()
    );
    assert!(!rig.permit());
    let rig = falls_off_its_times(1);
    assert_eq!(rig.alarms(), [AlarmKind::RejectNotConfirmed]);
    assert!(rig.permit());
}
