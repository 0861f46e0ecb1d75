use super::*;
use crate::config::Motion;
use crate::simulate::line::{self, Line};
use std::collections::HashSet;

fn at_ms(ms: i64) -> Instant {
    Instant::from_micros(ms * 1_000)
}

/// A line with photo-eye and encoder, whatever else is drawn.
fn line(seed: u64) -> Line {
    (0..)
        .map(|i| Line::draw(&mut Rng::new(seed * 1_000 + i)))
        .find(|l| {
            matches!(l.config.trigger, Trigger::PhotoEye { .. })
                && matches!(l.config.belt.motion, Motion::Encoder { .. })
        })
        .expect("an endless search")
}

fn run(line: &Line, step: Micros, seconds: i64) -> (World, Vec<WorldEvent>) {
    let mut world = World::with_options(&line.config, line.world.clone(), Instant::ZERO);
    let mut events = Vec::new();
    world.output(line::PERMIT, true, at_ms(100));
    let mut now = Instant::ZERO;
    while now < at_ms(seconds * 1_000) {
        now += step;
        world.advance(now, &mut events);
    }
    (world, events)
}

#[test]
fn what_happens_does_not_hang_on_how_often_one_looks() {
    let line = line(1);
    let (_, fine) = run(&line, Micros::new(100), 5);
    let (_, coarse) = run(&line, Micros::from_millis(50), 5);
    assert!(fine.len() > 1_000);
    assert_eq!(fine, coarse);
}

#[test]
fn stamps_never_go_back_and_every_part_gives_its_edges() {
    for seed in 0..20 {
        let line = line(seed);
        let (world, events) = run(&line, Micros::from_millis(7), 10);
        let (mut last, mut edges, mut frames) = (Instant::ZERO, HashSet::new(), 0);
        for event in &events {
            let at = match event {
                WorldEvent::Sensed(Event::Edge { input, active, at }) => {
                    if matches!(input, Input::PhotoEye(_)) && *active {
                        edges.insert(*at);
                    }
                    *at
                }
                WorldEvent::Sensed(Event::Encoder { at, .. }) => *at,
                WorldEvent::Sensed(other) => panic!("the world has no {other:?}"),
                WorldEvent::Expose(e) => {
                    frames += 1;
                    e.mid_exposure
                }
            };
            assert!(at >= last, "{event:?} after {last:?}");
            last = at;
        }
        let truth = world.truth();
        assert!(truth.counts.crossed > 3, "seed {seed}");
        assert_eq!(edges.len() as u64, truth.counts.crossed, "seed {seed}");
        assert!(frames > 3);
        let on_belt = world.parts_on_belt().count() as u64;
        let left = truth.notes.iter().filter(|n| matches!(n, TruthNote::Left { .. }));
        assert_eq!(
            truth.counts.crossed + left.count() as u64,
            truth.counts.passed + on_belt,
            "seed {seed}: parts got lost"
        );
    }
}

#[test]
fn no_permit_no_motion_and_no_part() {
    let line = line(2);
    let mut world = World::with_options(&line.config, line.world, Instant::ZERO);
    let mut events = Vec::new();
    world.advance(at_ms(3_000), &mut events);
    assert_eq!(world.truth().counts.crossed, 0);
    assert_eq!(world.speed(), Speed::ZERO);
}

/// Fires by the world's own knowledge at exactly the nominal place.
#[test]
fn a_well_aimed_pulse_removes_its_part_and_touches_no_other() {
    for seed in 0..30 {
        let line = line(seed);
        let (reject, recipe) = (&line.config.reject, &line.config.recipes[0]);
        let v = line.world.speed;
        let mut world = World::with_options(&line.config, line.world.clone(), Instant::ZERO);
        let mut events = Vec::new();
        world.output(line::PERMIT, true, at_ms(0));
        world.advance(at_ms(4_000), &mut events);
        let before = world.truth().notes.len();
        // The part that crosses next, at constant speed from here on.
        let part = loop {
            world.advance(world.next_event() + TICK, &mut events);
            let crossed = world.truth().notes[before..].iter().find_map(|n| match n {
                TruthNote::Crossed { part, at, .. } => Some((*part, *at)),
                _ => None,
            });
            if let Some(found) = crossed {
                break found;
            }
        };
        let (part, crossed) = part;
        let reach = |d: Length| crossed + v.time_for(d).expect("the belt runs");
        let on = reach(reject.distance + recipe.aim) - reject.lag_on;
        let off = reach(reject.distance + part.length + recipe.pulse_margin) - reject.lag_off;
        world.output(line::REJECT, true, on);
        world.output(line::REJECT, false, off.max(on + Micros::new(1)));
        world.advance(off + Micros::from_millis(2_000), &mut events);
        let hit: Vec<_> = world
            .truth()
            .notes
            .iter()
            .filter_map(|n| match n {
                TruthNote::Removed { number, .. } | TruthNote::Touched { number, .. } => Some(*number),
                _ => None,
            })
            .collect();
        assert_eq!(hit, [part.number, part.number], "seed {seed}");
        if line.config.verify.chute.is_some() {
            let chute = events.iter().find_map(|e| match e {
                WorldEvent::Sensed(Event::Edge {
                    input: Input::ChuteEye,
                    active: true,
                    at,
                }) => Some(*at),
                _ => None,
            });
            let (after, c) = (
                chute.expect("an edge").since(on + reject.lag_on),
                line.config.verify.chute.as_ref(),
            );
            let c = c.expect("checked above");
            assert!(
                c.after_min <= after && after <= c.after_max,
                "seed {seed}: {after} after on"
            );
        }
    }
}

#[test]
fn a_bounce_adds_edges_but_no_part() {
    let line = line(5);
    let mut world = World::with_options(&line.config, line.world.clone(), Instant::ZERO);
    world.output(line::PERMIT, true, at_ms(0));
    world.fault(
        at_ms(10),
        WorldFault::BounceNextPart {
            within: Micros::new(400),
        },
    );
    world.fault(at_ms(2_000), WorldFault::OverlookNextPart);
    let mut events = Vec::new();
    world.advance(at_ms(8_000), &mut events);
    let edges = events
        .iter()
        .filter(|e| {
            matches!(
                e,
                WorldEvent::Sensed(Event::Edge {
                    input: Input::PhotoEye(_),
                    active: true,
                    ..
                })
            )
        })
        .count() as u64;
    let unseen = world
        .truth()
        .notes
        .iter()
        .filter(|n| matches!(n, TruthNote::Crossed { sensed: false, .. }));
    assert_eq!(unseen.count(), 1);
    assert!(
        edges >= world.truth().counts.crossed,
        "a bounce adds, an overlooked part takes one"
    );
}

/// Steadily, in every second.
#[test]
fn the_built_in_line_brings_as_many_parts_as_it_says() {
    let parsed = crate::config::parse(crate::config::DEFAULT, "default.toml", std::path::Path::new("."));
    let config = parsed.unwrap_or_else(|report| panic!("{report}"));
    let mut world = World::with_options(&config, WorldOptions::of(&config, 1), Instant::ZERO);
    let mut events = Vec::new();
    world.output(config.belt.permit, true, at_ms(100));
    (1..=1_500).for_each(|step| world.advance(at_ms(step * 10), &mut events));
    let edge = |event: &WorldEvent| match event {
        WorldEvent::Sensed(Event::Edge {
            input: Input::PhotoEye(_),
            active: true,
            at,
        }) => Some(*at),
        _ => None,
    };
    let edges: Vec<Instant> = events.iter().filter_map(edge).collect();
    // The belt runs up first.
    for second in 2..15 {
        let within = at_ms(second * 1_000)..at_ms((second + 1) * 1_000);
        let parts = edges.iter().filter(|at| within.contains(at)).count();
        assert!((19..=21).contains(&parts), "second {second}: {parts}");
    }
}
