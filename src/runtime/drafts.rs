//! What a worker saw of the last few parts, kept until the core has judged
//! them and decided whether their pictures are worth keeping.

use crate::infer::inspector::{Input, Inputs};
use crate::record::pictures::{Picture, Square};
use crate::units::{PartId, RecipeId};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// More than parts can be between inspection and judgement; the oldest is overwritten.
const DRAFTS_MAX: usize = 32;

/// Numbers are reserved upwards in small blocks, so no part ever has this one.
const NOBODY: PartId = PartId(u64::MAX);

/// A fixed set of drafts. The buffers of parts whose pictures nobody wants are reused.
pub struct Drafts(Mutex<Slots>);

struct Slots {
    drafts: Vec<Option<Draft>>,
    next: usize,
}

/// The exact u8 inputs of the models for one part (invariant 9), not yet judged.
pub struct Draft {
    pub recipe: RecipeId,
    pub picture: Box<Picture>,
}

impl Drafts {
    pub fn new() -> Self {
        Drafts(Mutex::new(Slots {
            drafts: (0..DRAFTS_MAX).map(|_| None).collect(),
            next: 0,
        }))
    }

    /// Copies what the inspector used for `part` over the oldest draft.
    pub fn put(&self, part: PartId, recipe: RecipeId, inputs: &Inputs<'_>) {
        let mut slots = self.lock();
        let at = slots.next;
        slots.next = (at + 1) % DRAFTS_MAX;
        let draft = slots.drafts[at].get_or_insert_with(|| Draft {
            recipe,
            picture: Box::default(),
        });
        draft.recipe = recipe;
        let picture = &mut draft.picture;
        picture.part = part;
        copy(&mut picture.classify, inputs.classify.as_ref());
        copy(&mut picture.segment, inputs.segment.as_ref());
        picture.mask.clear();
        if let Some(mask) = &inputs.mask {
            picture.mask.extend_from_slice(mask.classes);
        }
    }

    /// Hands over the draft of `part`, unless it has been overwritten.
    pub fn take(&self, part: PartId) -> Option<Draft> {
        let mut slots = self.lock();
        slots
            .drafts
            .iter_mut()
            .find(|draft| draft.as_ref().is_some_and(|d| d.picture.part == part))?
            .take()
    }

    /// Returns a draft that nobody wants, for its buffers.
    pub fn give_back(&self, mut draft: Draft) {
        draft.picture.part = NOBODY;
        let mut slots = self.lock();
        if let Some(empty) = slots.drafts.iter_mut().find(|slot| slot.is_none()) {
            *empty = Some(draft);
        }
    }

    /// A panicking thread leaves at worst one draft half copied; the others are still good.
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn copy(to: &mut Option<Square>, from: Option<&Input<'_>>) {
    match from {
        None => *to = None,
        Some(input) => {
            let square = to.get_or_insert_default();
            square.side = input.size;
            square.rgb.clear();
            square.rgb.extend_from_slice(input.rgb);
        }
    }
}
