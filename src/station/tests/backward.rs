//! A belt that is pulled back, and an encoder that counts the wrong way.

use super::*;

/// Stops the line as a fault does, and moves the belt by hand once it stands.
fn pull_back(rig: &mut Rig, mm: i64) {
    let queue = |present| Event::Trouble {
        trouble: Trouble::Queue,
        present,
    };
    rig.event(queue(true));
    assert!(!rig.permit());
    rig.speed = 0;
    rig.run(100);
    rig.speed = -200_000;
    rig.run(mm * 5);
    rig.speed = 0;
    rig.run(500);
    rig.event(queue(false));
    rig.event(Event::Command(Command::Acknowledge));
    assert!(rig.permit(), "{:?}", rig.alarms());
    rig.speed = 500_000;
}

fn fired(rig: &Rig) -> usize {
    rig.entries().filter(|e| matches!(e, Entry::Fired { .. })).count()
}

#[test]
fn parts_pulled_back_across_the_photo_eye_are_the_same_parts() {
    let mut rig = Rig::new();
    for i in 0..5 {
        rig.lay(20 + 60 * i, i != 1);
    }
    // All five are behind the eye, the foremost 310 mm, and come back across it.
    rig.run(660);
    assert_eq!(rig.counts().seen, 5);
    pull_back(&mut rig, 320);
    rig.run(2_000);
    assert_eq!(rig.counts().seen, 5);
    assert_eq!(
        rig.fates(),
        [
            (1, PASSED),
            (2, Fate::Confirmed),
            (3, PASSED),
            (4, PASSED),
            (5, PASSED)
        ]
    );
    assert_eq!(fired(&rig), 1);
    assert!(rig.permit() && rig.alarms().is_empty(), "{:?}", rig.alarms());
}

/// A part that rocks under the photo-eye has one length, not many short ones.
#[test]
fn a_part_that_rocks_under_the_photo_eye_is_one_part() {
    let mut rig = Rig::new();
    rig.lay(20, true);
    rig.run(60);
    for _ in 0..6 {
        pull_back(&mut rig, 15);
        rig.run(40);
    }
    rig.run(2_000);
    assert_eq!(rig.counts().seen, 1);
    assert_eq!(rig.fates(), [(1, PASSED)]);
    assert!(rig.alarms().is_empty(), "{:?}", rig.alarms());
}

/// Wherever the belt stops and however far it is pulled back, also just behind the part's end.
#[test]
fn the_end_of_a_part_that_comes_back_is_no_new_part() {
    for stopped_after in 80..115 {
        for mm in [1, 2, 5, 20] {
            let mut rig = Rig::new();
            rig.lay(20, true);
            rig.run(stopped_after);
            pull_back(&mut rig, mm);
            rig.run(2_000);
            assert_eq!(rig.counts().seen, 1, "after {stopped_after} ms, by {mm} mm");
            assert_eq!(rig.fates(), [(1, PASSED)], "after {stopped_after} ms, by {mm} mm");
        }
    }
}

#[test]
fn no_reject_fires_twice_for_parts_that_come_to_it_again() {
    let mut rig = Rig::new();
    rig.lay(50, false);
    rig.lay(110, true);
    rig.lay(170, false);
    // The first has fallen; the second is under the reject.
    rig.run(1_090);
    assert_eq!(fired(&rig), 1);
    pull_back(&mut rig, 150);
    rig.run(2_000);
    assert_eq!(fired(&rig), 2);
    assert_eq!(
        rig.fates(),
        [(1, Fate::Confirmed), (2, PASSED), (3, Fate::Confirmed)]
    );
    assert!(rig.alarms().is_empty(), "{:?}", rig.alarms());
}

#[test]
fn a_part_pulled_back_under_the_passed_eye_passes_once() {
    let mut rig = Rig::new();
    rig.lay(50, true);
    rig.run(1_155);
    assert_eq!(rig.fates(), [(1, PASSED)]);
    pull_back(&mut rig, 100);
    rig.run(1_000);
    assert_eq!(rig.fates(), [(1, PASSED)]);
    assert_eq!(rig.station.view(rig.at()).unjudged, 0);
    assert!(rig.permit() && rig.alarms().is_empty(), "{:?}", rig.alarms());
}

/// Lines a and b swapped: the belt runs forward, the counts go back.
#[test]
fn an_encoder_that_counts_backward_stops_the_belt() {
    let mut rig = Rig::new();
    for _ in 0..90 {
        rig.run(1);
        rig.slipped -= 1_000;
    }
    assert!(rig.permit(), "not at the first trembling");
    for _ in 0..60 {
        rig.run(1);
        rig.slipped -= 1_000;
    }
    assert_eq!(rig.alarms(), [AlarmKind::BeltBackward]);
    assert!(!rig.permit());
    rig.speed = 0;
    rig.run(200);
    rig.event(Event::Command(Command::Acknowledge));
    assert!(
        rig.permit(),
        "it stands; whether it still counts backward shows when it runs"
    );
}

/// The air is on when the belt stops, and a hand pulls it back: what comes to the reject then has passed it.
#[test]
fn a_reject_that_is_on_ends_when_the_belt_is_pulled_back() {
    let mut rig = Rig::new();
    rig.lay(50, false);
    rig.run(938);
    let stopped = rig.at();
    pull_back(&mut rig, 60);
    let off = rig.entries().find_map(|entry| match entry {
        Entry::Fired { actual_off, .. } => Some(*actual_off),
        _ => None,
    });
    let on_for = off.expect("a pulse").since(stopped);
    assert!(on_for < Micros::from_millis(150), "on for {on_for} more");
    assert_eq!(rig.fates(), []);
    rig.run(700);
    assert_eq!(
        rig.fates(),
        [(1, Fate::Confirmed)],
        "rejected when it comes again"
    );
    assert_eq!(fired(&rig), 2);
}

/// The encoder's wheel slips while the belt comes forward again: by its counts, the next part comes where
/// the belt has been, but where no part was.
#[test]
fn a_part_where_none_was_known_is_new_although_the_belt_has_been_there() {
    let mut rig = Rig::new();
    rig.camera_on = false;
    rig.lay(20, true);
    rig.run(200);
    pull_back(&mut rig, 40);
    rig.lay(70, true);
    for _ in 0..140 {
        rig.run(1);
        rig.slipped -= 357;
    }
    rig.run(100);
    assert_eq!(rig.counts().seen, 2);
    let lengths: Vec<_> = rig
        .station
        .ledger
        .parts()
        .iter()
        .map(|part| part.measured)
        .collect();
    assert_eq!(lengths, [true, true], "and it has an end");
}
