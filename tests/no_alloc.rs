//! After warm-up, looking at a frame allocates nothing (invariant 8): frame → blobs → model input.
//! Counted per thread: what the test harness does beside it does not matter.

use arrayvec::ArrayVec;
use elek::config::{BeltAxis, Contrast, Crop, Fit, Locate};
use elek::infer::manifest::Filter;
use elek::station::event::Blob;
use elek::units::{CameraId, FrameId, Instant, Length};
use elek::vision::{Frame, Locator, PartSize, PixelFormat, Preprocessor};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

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
    let formats = PixelFormat::ALL.into_iter().filter(|f| *f != PixelFormat::Mjpg);
    let crops = [
        Crop::Part {
            margin: Length::from_mm(2),
        },
        Crop::Picture { fit: Fit::Letterbox },
        Crop::Picture { fit: Fit::Cover },
        Crop::Picture { fit: Fit::Stretch },
    ];
    let part = PartSize {
        min: Length::from_mm(20),
        max: Length::from_mm(40),
        gap_min: Length::from_mm(8),
    };
    for (format, crop) in formats.flat_map(|f| crops.map(|c| (f, c))) {
        let stride = format.row_bytes(WIDTH);
        let mut frame = Frame {
            camera: CameraId(0),
            id: FrameId(1),
            sequence: 1,
            mid_exposure: Instant::ZERO,
            format,
            width: WIDTH,
            height: HEIGHT,
            stride,
            bytes: vec![0; format.picture_bytes(WIDTH, HEIGHT, stride)],
        };
        let locate = Locate {
            contrast: Contrast::PartBrighter,
            threshold: None,
        };
        let mut locator = Locator::with_sizes(locate, 200.0, BeltAxis::PlusX, part);
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
