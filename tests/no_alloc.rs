//! After warm-up nothing is allocated on the way of a part (invariant 8): frame → blobs → model
//! input → inspection (what tract itself allocates excepted) → verdict → what the core wants done.
//! The output process has a test of its own.
//!
//! Counted per thread: what the test harness does beside it does not matter.

mod common;
#[path = "common/ops.rs"]
mod ops;

use arrayvec::ArrayVec;
use elek::config::{Crop, Fit};
use elek::infer::engine::Engine;
use elek::infer::inspector::{Input, Inspector};
use elek::infer::int8;
use elek::infer::int8::plan::{Cutting, Plan, State};
use elek::infer::manifest::{self, Filter};
use elek::infer::sandbox;
use elek::kernels::isa::Isa;
use elek::kernels::team::Team;
use elek::queue;
use elek::simulate::trace::Line;
use elek::simulate::virtual_run::{describe, simulate};
use elek::station::Station;
use elek::station::event::{Action, Blob, Verdict};
use elek::station::judge::judge;
use elek::vision::{Frame, PixelFormat, Preprocessor};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

struct Counting;

thread_local! {
    // Constant and without a destructor, so that the allocator may use it at any time.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn allocations() -> usize {
    ALLOCATIONS.get()
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's contract is the one of `System`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;

/// A grainy belt with one bright square part and some dust.
fn fill(frame: &mut Frame, seed: u32, x: u32, y: u32, side: u32) {
    let mut state = seed;
    for byte in &mut frame.bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = 60 + (state >> 28) as u8;
    }
    let group = frame.stride / WIDTH;
    for row in y..y + side {
        let start = (row * frame.stride + x * group) as usize;
        frame.bytes[start..start + (side * group) as usize].fill(200);
    }
    for i in 0..u32::min(seed, 40) {
        let place = (i * 7 + 3) * frame.stride + (i * 11 + 5) * group;
        frame.bytes[place as usize] = 250;
    }
    if frame.format == PixelFormat::Y10 {
        // The upper byte holds two bits only.
        frame
            .bytes
            .iter_mut()
            .skip(1)
            .step_by(2)
            .for_each(|b| *b = (*b >> 7) * 3);
    }
}

#[test]
fn from_frame_to_model_input_nothing_is_allocated() {
    for (format, crop) in common::raw_formats().flat_map(|f| common::crops().map(|c| (f, c))) {
        let stride = format.row_bytes(WIDTH);
        let bytes = vec![0; format.picture_bytes(WIDTH, HEIGHT, stride)];
        let mut frame = Frame::new(format, WIDTH, HEIGHT, bytes);
        let mut locator = common::locator(200.0);
        let mut preprocessor = Preprocessor::new(crop, 224, Filter::Bicubic, 200.0);
        let mut blobs = ArrayVec::new();
        let mut rgb = vec![0; 224 * 224 * 3];
        let mut look = |frame: &Frame| {
            locator.locate(frame, &mut blobs).expect("the frame is whole");
            let blob: Option<Blob> = blobs.first().copied();
            assert!(blob.is_some(), "{format}: the part is found");
            preprocessor
                .run(frame, blob, &mut rgb)
                .expect("the frame is whole");
        };
        // Warm-up: one small part in the middle.
        fill(&mut frame, 1, 300, 200, 90);
        look(&frame);
        // Larger, at the edge, dusty, noisy: none of it may ask for memory.
        for (seed, x, y, side) in [
            (2, 100, 100, 200),
            (40, 0, 0, 120),
            (77, 500, 340, 140),
            (3, 310, 10, 100),
        ] {
            fill(&mut frame, seed, x, y, side);
            let before = allocations();
            look(&frame);
            let count = allocations() - before;
            assert_eq!(count, 0, "{format} {crop:?}, part of {side} px at {x}, {y}");
        }
    }
}

/// A green or red picture with a red patch.
fn coloured(seed: u8) -> Frame {
    let (width, height) = (64, 48);
    let bytes = (0..width * height)
        .flat_map(|at| match (at % width) / 8 == u32::from(seed % 8) {
            true => [255, seed, 0],
            false => [seed, 255 - seed, 0],
        })
        .collect();
    Frame::new(PixelFormat::Rgb3, width, height, bytes)
}

/// What `Engine::run` allocates for this input: tract's own.
fn of_tract(engine: &mut Engine, input: &Input<'_>) -> usize {
    engine.run(input.rgb).expect("the model runs");
    let before = allocations();
    engine.run(input.rgb).expect("the model runs");
    allocations() - before
}

#[test]
fn an_inspection_allocates_nothing_but_what_tract_does() {
    sandbox::use_program(env!("CARGO_BIN_EXE_elek"));
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let crop = Crop::Picture { fit: Fit::Stretch };
    let recipes = [
        common::recipe(
            &folder,
            crop,
            Some("colour.onnx"),
            None,
            &["green >= 0.5"],
            &["red >= 0.7"],
        ),
        common::recipe(
            &folder,
            crop,
            None,
            Some("red_mask.onnx"),
            &["red.area_mm2 <= 3"],
            &["red.area_mm2 > 8"],
        ),
    ];
    let mut verdicts = [0; 2];
    for recipe in &recipes {
        let mut inspector = Inspector::load(recipe, &common::camera()).expect("the models are good");
        let info = recipe
            .classify
            .as_ref()
            .or(recipe.segment.as_ref())
            .expect("one model");
        let mut engine = Engine::load(&info.bytes().expect("the file is there"), info).expect("a model");
        inspector.inspect(&coloured(0), None).expect("warm-up");
        for seed in [0, 3, 250, 100, 7] {
            let frame = coloured(seed);
            let before = allocations();
            let inspection = inspector.inspect(&frame, None).expect("the frame is whole");
            let verdict = judge(&recipe.rules, &inspection);
            let count = allocations() - before;
            verdicts[usize::from(verdict == Verdict::Pass)] += 1;
            let inputs = inspector.inputs();
            let input = inputs
                .classify
                .or(inputs.segment)
                .expect("the model saw the part");
            assert_eq!(
                count,
                of_tract(&mut engine, &input),
                "{} with seed {seed}",
                info.name
            );
        }
    }
    assert!(
        verdicts.iter().all(|n| *n > 0),
        "both good and bad parts were judged: {verdicts:?}"
    );
}

/// Of both threads of a team of two together.
fn allocations_of(team: &Team) -> usize {
    let mut counts = [0; 2];
    let mut lanes = [(); 2];
    let (started, threads) = (AtomicUsize::new(0), team.threads());
    // No thread gets a second share before each has one.
    let one_each = |(): &mut (), count: &mut usize| {
        started.fetch_add(1, Ordering::SeqCst);
        while started.load(Ordering::SeqCst) < threads {
            std::thread::yield_now();
        }
        *count = allocations();
    };
    let mut lead = team.lead().expect("no inference is under way");
    lead.share(&mut lanes, &mut counts, one_each)
        .expect("it only counts");
    counts.iter().sum()
}

#[test]
fn a_network_that_runs_in_integers_allocates_nothing() {
    let team = Arc::new(Team::new(2).expect("a thread"));
    for name in ["builtin:cap-classify", "builtin:cap-segment"] {
        let info = manifest::describe(std::path::Path::new(""), name, None).expect("it is shipped");
        let bytes = info.bytes().expect("it is shipped");
        let mut engine = Engine::load(&bytes, &info).expect("a model");
        assert!(
            matches!(engine, Engine::Int8(_)),
            "{:#?}",
            engine.facts().integers
        );
        let side = info.size as usize;
        let rgb: Vec<u8> = (0..side * side * 3).map(|i| (i % 251) as u8).collect();
        let before = allocations();
        engine.run(&rgb).expect("the model runs");
        assert_eq!(allocations() - before, 0, "{name}");
        let mut engine = Engine::with_team(&bytes, &info, Some(&team)).expect("a model");
        let before = allocations_of(&team);
        engine.run(&rgb).expect("the model runs");
        assert_eq!(allocations_of(&team), before, "{name}, by two threads");
    }
}

/// Every operator there is, in regions of mixed graphs too: what tract hands to a region and takes from it is tract's own.
#[test]
fn a_region_allocates_nothing_whatever_it_is_made_of() {
    let team = Arc::new(Team::new(2).expect("a thread"));
    let (mut seen, mut regions) = (0, [0; 2]);
    for case in ops::cases() {
        let lowered = int8::lower(&case.proto(), "image", &case.shape, &case.output).expect("a graph");
        let mixed = lowered.whole().is_none();
        for region in &lowered.partition.regions {
            let plan = Arc::new(Plan::new(region, Isa::best()).expect("a plan"));
            let input = |shape: &[usize]| vec![0.5; shape.iter().product()];
            let inputs: Vec<Vec<f32>> = plan.inputs().iter().map(|i| input(&i.shape)).collect();
            let inputs: Vec<&[f32]> = inputs.iter().map(|i| &i[..]).collect();
            let mut outputs: Vec<Vec<f32>> = plan.outputs().iter().map(|o| input(&o.shape)).collect();
            let mut state = State::new(plan.clone());
            let before = allocations();
            state.run(&inputs).expect("no kernel panics");
            for (i, output) in outputs.iter_mut().enumerate() {
                state.output(i, output);
            }
            assert_eq!(allocations() - before, 0, "{}", case.name);
            let mut state = State::with_team(plan, Some(team.clone()), Cutting::Always);
            let before = allocations_of(&team);
            state.run(&inputs).expect("no kernel panics");
            assert_eq!(allocations_of(&team), before, "{}, by two threads", case.name);
            for (i, alone) in outputs.iter().enumerate() {
                let mut together = alone.clone();
                state.output(i, &mut together);
                assert!(*alone == together, "{}: other bits by two threads", case.name);
            }
            regions[usize::from(mixed)] += 1;
        }
        let words = ["concat", "transposed", "mixed"];
        seen |= words.iter().enumerate().fold(0, |bits, (i, word)| {
            bits | usize::from(case.name.starts_with(word)) << i
        });
    }
    assert_eq!(
        seen, 0b111,
        "concatenations, transposed convolutions and mixed graphs were among them"
    );
    assert!(regions[0] > 100 && regions[1] > 3, "{regions:?}");
}

/// The events of simulated lines, with all their faults, handed to a core once more.
/// Also when the receiver has to sleep, which std is free to build in any way it likes.
#[test]
fn what_goes_through_a_queue_allocates_nothing_on_either_side() {
    let (sender, receiver) = queue::bounded(4);
    let (back, answers) = queue::bounded(1);
    let receiving = std::thread::spawn(move || {
        let before = allocations();
        while let Some(value) = receiver.recv() {
            back.send(value).expect("the other side waits for it");
        }
        allocations() - before
    });
    let before = allocations();
    for n in 0..1_000_u32 {
        sender.send(n).expect("the other side runs");
        assert_eq!(answers.recv_timeout(Duration::from_secs(60)), Ok(n));
    }
    assert_eq!(allocations(), before, "while sending");
    drop(sender);
    assert_eq!(receiving.join().expect("no panic"), 0, "while receiving");
}

#[test]
fn the_core_allocates_nothing_while_it_handles_events() {
    let mut actions: Vec<Action> = Vec::with_capacity(1024);
    let (mut handled, mut wanted) = (0, 0);
    for seed in 0..40 {
        let mut trace = Vec::new();
        simulate(seed, Some(&mut trace)).unwrap_or_else(|failure| panic!("seed {seed}: {failure:?}"));
        let config = describe(seed).0.config;
        let mut station = None;
        for line in trace {
            match line {
                Line::Start { now, resume } => station = Some(Station::new(config.clone(), resume, now)),
                Line::Died { .. } => station = None,
                Line::Event { now, event, .. } => {
                    let Some(core) = &mut station else { continue };
                    actions.clear();
                    let event = *event;
                    let words = format!("seed {seed}, {event:?}");
                    let before = allocations();
                    core.handle(now, event, &mut actions);
                    core.next_deadline();
                    let count = allocations() - before;
                    assert_eq!(count, 0, "{words}");
                    handled += 1;
                    wanted += actions.len();
                }
                _ => {}
            }
        }
    }
    assert!(
        handled > 10_000 && wanted > 1_000,
        "{handled} events, {wanted} actions"
    );
}
