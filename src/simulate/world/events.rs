//! What the line reports, and what can go wrong with it.

use super::IN_VIEW_MAX;
use crate::config::{BeltAxis, Camera};
use crate::simulate::part::Part;
use crate::simulate::rejecter::Stuck;
use crate::station::event::{Event, Input};
use crate::units::{BeltPosition, CameraId, Instant, Length, Micros, Speed};
use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};

/// What a camera would see at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Expose {
    pub camera: CameraId,
    /// The camera's own counter; a gap means frames that were lost on the way.
    pub sequence: u32,
    pub mid_exposure: Instant,
    /// Of the belt, since the world began.
    pub position: BeltPosition,
    /// In the direction of travel, foremost first.
    pub parts: ArrayVec<PartInView, IN_VIEW_MAX>,
}

/// A part and its place in the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartInView {
    pub part: Part,
    /// Centre of the part ahead of the picture centre, in the direction of travel.
    pub along: Length,
}

impl PartInView {
    /// Centre of the part in pixels of a picture of this size, x right and y down; may lie outside.
    pub fn centre_px(&self, camera: &Camera, width: u32, height: u32) -> (f64, f64) {
        let along = self.along.as_micrometres() as f64 / camera.um_per_px;
        let across = self.part.across.as_micrometres() as f64 / camera.um_per_px;
        let (x, y) = (f64::from(width) / 2.0, f64::from(height) / 2.0);
        // `across` is left of the direction of travel; pictures have y downwards.
        match camera.belt_axis {
            BeltAxis::PlusX => (x + along, y - across),
            BeltAxis::MinusX => (x - along, y + across),
            BeltAxis::PlusY => (x + across, y + along),
            BeltAxis::MinusY => (x - across, y - along),
        }
    }
}

/// What the world reports.
#[derive(Clone, Debug, PartialEq)]
pub enum WorldEvent {
    /// A sensor's edge or an encoder sample, as the station is to receive it.
    Sensed(Event),
    /// The camera exposes; whoever drives the world makes a frame of it.
    Expose(Expose),
}

/// Something that goes wrong with the line, until told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorldFault {
    /// The sensor shows this level whatever passes; `None` frees it.
    StickSensor {
        input: Input,
        level: Option<bool>,
    },
    /// The photo-eye overlooks the next part; a hardware-triggered camera then does, too.
    OverlookNextPart,
    /// The next part's leading edge comes with contact bounce shorter than this.
    BounceNextPart {
        within: Micros,
    },
    /// The photo-eye sees something short that is no part.
    Blip {
        length: Micros,
    },
    /// The passed eye overlooks the next part.
    OverlookAtPassedEye,
    /// The encoder's wheel does not follow this share of the way; 0 ends it.
    Slip {
        per_mille: u16,
    },
    /// The counter device loses or gains counts at once.
    JumpEncoder {
        counts: i64,
    },
    /// The belt's speed is set anew.
    SetSpeed(Speed),
    /// Somebody pulls the belt back as soon as it stands.
    PullBack {
        way: Length,
    },
    /// The motor runs whatever the permit says.
    Runaway(bool),
    StickActuator(Option<Stuck>),
    /// Somebody takes the part away that is furthest between the photo-eye and the reject.
    TakePart,
    /// Somebody clears the belt behind the photo-eye.
    ClearBelt,
    /// Somebody wipes an eye that nothing covers: it sees the hand come and go.
    Wipe {
        input: Input,
    },
    /// No new parts come.
    StopFeed(bool),
    /// Bin-full or air-low contact.
    Contact {
        input: Input,
        active: bool,
    },
    /// The camera gives no frames; its counter runs on.
    CameraOff(bool),
}
