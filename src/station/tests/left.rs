//! Parts that lie on the belt and that nobody follows: from before the start, from before the
//! positions became void, or because the ledger was full.

use super::*;
use crate::station::alarm::{About, words_about};

/// Leaves a part on the belt whose leading edge is `mm` behind the photo-eye.
fn leave(rig: &mut Rig, mm: i64) {
    rig.lay(-mm, true);
}

fn words(rig: &Rig) -> String {
    let view = rig.station.view(rig.at());
    let alarm = view.alarms.first().expect("an alarm");
    words_about(alarm.kind, alarm.about).0.into_owned()
}

fn strays(rig: &Rig, which: Stray) -> usize {
    let entries = rig.entries();
    entries
        .filter(|e| matches!(e, Entry::Stray { stray, .. } if *stray == which))
        .count()
}

/// The acknowledge said that the belt is clear, and it was not: an unjudged part has left the
/// station as if it were good.
#[test]
fn a_part_left_on_the_belt_stops_it_at_the_passed_eye() {
    let mut rig = Rig::new();
    leave(&mut rig, 300);
    rig.lay(150, true);
    rig.run(420);
    assert!(rig.permit(), "it is not there yet");
    rig.run(30);
    assert_eq!(rig.alarms(), [AlarmKind::PartWithoutTrigger]);
    assert!(!rig.permit());
    assert_eq!(strays(&rig, Stray::PassedEyeWithoutPart), 1);
    assert_eq!(words(&rig), "1 part left on the belt went past the passed eye");
    // It is told, but no part of the account: no photo-eye announced it to this station.
    assert_eq!(rig.station.view(rig.at()).unjudged, 1);
    assert_eq!(rig.counts().seen, 1);
    assert!(rig.counts().balances());
    rig.run(1_100);
    assert_eq!(rig.fates(), [(1, PASSED)], "what was judged goes on");
}

#[test]
fn every_part_left_on_the_belt_stops_it_anew() {
    let mut rig = Rig::new();
    leave(&mut rig, 400);
    leave(&mut rig, 340);
    leave(&mut rig, 200);
    rig.run(400);
    assert_eq!(words(&rig), "2 parts left on the belt went past the passed eye");
    rig.event(Event::Command(Command::Acknowledge));
    assert!(
        !rig.permit(),
        "the second came too late for the person to have seen it"
    );
    rig.speed = 0;
    rig.run(150);
    rig.event(Event::Command(Command::Acknowledge));
    assert!(rig.permit() && rig.alarms().is_empty(), "{:?}", rig.alarms());
    rig.speed = 500_000;
    rig.run(300);
    assert_eq!(words(&rig), "1 part left on the belt went past the passed eye");
    assert!(!rig.permit());
    assert_eq!(rig.station.view(rig.at()).unjudged, 3);
}

/// Killed while the belt ran: it coasts on, and parts go past before anybody can act.
#[test]
fn what_coasts_past_the_passed_eye_after_a_crash_is_told_before_anybody_acknowledges() {
    let resume = Resume {
        counts: Counts {
            seen: 7,
            unaccounted: 7,
            ..Counts::default()
        },
        next_part: PartId(64),
        unaccounted: 7,
    };
    let mut rig = Rig::boot(testing::config(), resume);
    leave(&mut rig, 500);
    rig.event(Event::OutputsReady(true));
    rig.run(20);
    assert_eq!(words(&rig), "7 parts were on the belt when the station stopped");
    rig.run(80);
    assert_eq!(words(&rig), "1 part left on the belt went past the passed eye");
    rig.speed = 0;
    rig.run(500);
    rig.event(Event::Command(Command::Acknowledge));
    assert!(rig.permit() && rig.alarms().is_empty(), "that one was told");
    assert_eq!(rig.counts().unaccounted, 7, "counted once");
}

#[test]
fn the_camera_tells_of_a_part_left_on_the_belt_once_it_was_said_to_be_clear() {
    let resume = Resume {
        next_part: PartId(1),
        ..Resume::default()
    };
    let mut rig = Rig::boot(testing::config(), resume);
    rig.event(Event::OutputsReady(true));
    rig.speed = 0;
    leave(&mut rig, 60);
    rig.run(500);
    assert_eq!(
        rig.alarms(),
        [AlarmKind::AcknowledgeNeeded],
        "somebody is about to take it off"
    );
    rig.event(Event::Command(Command::Acknowledge));
    assert!(rig.permit());
    rig.run(50);
    assert_eq!(rig.alarms(), [AlarmKind::PartWithoutTrigger]);
    assert!(!rig.permit());
    assert_eq!(
        words(&rig),
        "A part left on the belt is under the camera: not judged"
    );
    // Told once; it need not be put in order by the camera's leave.
    rig.run(200);
    rig.event(Event::Command(Command::Acknowledge));
    rig.run(200);
    assert!(rig.permit());
}

#[test]
fn a_part_whose_position_became_void_is_not_let_pass() {
    let mut rig = Rig::new();
    rig.lay(50, true);
    rig.run(700);
    assert_eq!(rig.verdicts(), [(1, Verdict::Pass)]);
    rig.slipped = -40_000;
    rig.run(10);
    let lost = Fate::Unaccounted(Unaccounted::LostPosition);
    assert_eq!(rig.fates(), [(1, lost)]);
    rig.run(150);
    rig.event(Event::Command(Command::Acknowledge));
    assert!(rig.permit());
    rig.run(500);
    assert_eq!(
        rig.alarms(),
        [AlarmKind::PartWithoutTrigger],
        "nobody knows that it was this one"
    );
    assert!(!rig.permit());
    assert_eq!(rig.fates(), [(1, lost)], "it ends once");
}

#[test]
fn a_part_that_the_ledger_had_no_room_for_is_not_let_pass() {
    let mut rig = Rig::new();
    let mut actions = Vec::new();
    let (now, here) = (rig.at(), rig.position);
    // All the room there is, for parts that are far away.
    for i in 0..42 {
        let position = BeltPosition::from_micrometres(here + 40_000_000 + i * 1_000_000);
        rig.station.open_part(now, now, position, None, &mut actions);
    }
    rig.lay(5, true);
    rig.run(40);
    assert!(rig.alarms().contains(&AlarmKind::LedgerFull));
    rig.run(1_200);
    assert!(
        rig.alarms().contains(&AlarmKind::PartWithoutTrigger),
        "{:?}",
        rig.alarms()
    );
    assert_eq!(rig.station.view(rig.at()).unjudged, 1);
}

/// Two edges of one part that has a hole are one part.
#[test]
fn a_hole_in_a_part_left_on_the_belt_is_no_second_one() {
    let mut rig = Rig::new();
    leave(&mut rig, 300);
    let (whole, zero) = (rig.things.len() - 1, rig.things[0].zero);
    rig.things[whole].length = 5_000;
    rig.things.push(testing::rig::Thing {
        zero: zero + 8_000,
        length: 20_000,
        good: true,
        removed: false,
    });
    rig.run(700);
    assert_eq!(strays(&rig, Stray::PassedEyeWithoutPart), 2);
    assert_eq!(rig.station.view(rig.at()).unjudged, 1);
    let about = rig.station.view(rig.at()).alarms[0].about;
    assert_eq!(about, About::LeftOnBelt { passed: 1 });
}

fn level(rig: &mut Rig, input: Input) {
    let at = rig.at();
    let active = true;
    rig.event(Event::Level { input, active, at });
}

/// A part under the eye when the station begins: where it begins, nobody saw.
#[test]
fn what_covers_the_photo_eye_at_the_start_is_no_part_that_came() {
    let mut rig = Rig::boot(testing::config(), Resume::default());
    level(&mut rig, Input::PhotoEye(LaneId(0)));
    rig.run(20);
    let (input, active, at) = (Input::PhotoEye(LaneId(0)), false, rig.at());
    rig.event(Event::Edge { input, active, at });
    rig.run(20);
    assert_eq!(rig.counts().seen, 0);
    assert_eq!(rig.alarms(), [AlarmKind::AcknowledgeNeeded], "no edge was lost");
}

#[test]
fn a_button_that_is_held_when_the_station_begins_acknowledges_nothing() {
    let mut rig = Rig::boot(testing::config(), Resume::default());
    rig.event(Event::OutputsReady(true));
    level(&mut rig, Input::Acknowledge);
    rig.run(500);
    assert!(!rig.permit());
    for active in [false, true] {
        let (input, at) = (Input::Acknowledge, rig.at());
        rig.event(Event::Edge { input, active, at });
        rig.run(100);
    }
    assert!(rig.permit(), "pressed anew, it does");
}

/// A belt without encoder that runs already, because it coasts or its contactor hangs.
#[test]
fn a_belt_that_runs_when_the_station_begins_moves() {
    let mut config = testing::config();
    let speed = Speed::from_um_per_s(500_000);
    config.belt.motion = Motion::Time { speed };
    let mut rig = Rig::boot(config, Resume::default());
    level(&mut rig, Input::BeltRunning);
    rig.run(100);
    let here = rig.station.belt.position_at(rig.at());
    assert!(here >= BeltPosition::from_micrometres(49_000), "{here:?}");
}
