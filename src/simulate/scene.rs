//! From an exposure of the simulated line to what a renderer draws.

use super::render::{PartLook, Scene, ScenePart};
use super::world::Expose;
use crate::config::{BeltAxis, Camera};

/// What a camera with pictures of this size sees at `expose`. `seed` decides light and
/// noise; together with the exposure's number, so that no two frames are alike.
pub fn scene(expose: &Expose, camera: &Camera, width: u32, height: u32, seed: u64) -> Scene {
    let moved = expose.position.as_micrometres();
    let parts = expose
        .parts
        .iter()
        .map(|view| {
            let (x, y) = view.centre_px(camera, width, height);
            ScenePart {
                x: x as f32,
                y: y as f32,
                look: PartLook::of(&view.part),
            }
        })
        .collect();
    Scene {
        belt_um: match camera.belt_axis {
            BeltAxis::PlusX => moved,
            BeltAxis::MinusX => -moved,
            // The renderer's belt has its texture along x only.
            BeltAxis::PlusY | BeltAxis::MinusY => 0,
        },
        seed: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(expose.sequence),
        parts,
    }
}
