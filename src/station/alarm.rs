//! What an alarm means, and what to do about it, in a technician's words.

use crate::station::event::{AlarmKind, Trouble};
use std::borrow::Cow;

/// What the station knows about an alarm beyond its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum About {
    #[default]
    Nothing,
    /// So many parts were on the belt when the last process ended.
    OnBelt(u64),
    /// A part that was to be taken off the belt was met; so many of them went past the passed eye.
    LeftOnBelt { passed: u64 },
}

const ON_BELT: &str = "Remove every part from photo-eye to end of the belt, then acknowledge. One that is left stops the belt again.";

/// As [`words`], with what is known about this one.
pub fn words_about(kind: AlarmKind, about: About) -> (Cow<'static, str>, Cow<'static, str>) {
    let (text, advice): (Cow<str>, &str) = match about {
        About::OnBelt(1) => ("1 part was on the belt when the station stopped".into(), ON_BELT),
        About::OnBelt(parts) if parts > 1 => (
            format!("{parts} parts were on the belt when the station stopped").into(),
            ON_BELT,
        ),
        About::LeftOnBelt { passed: 0 } => (
            "A part left on the belt is under the camera: not judged".into(),
            "Remove it, and every part from photo-eye to end of the belt, then acknowledge.",
        ),
        About::LeftOnBelt { passed: 1 } => (
            "1 part left on the belt went past the passed eye".into(),
            "It was not judged: get it back from behind the passed eye. Clear the belt from the photo-eye on, then acknowledge.",
        ),
        About::LeftOnBelt { passed } => (
            format!("{passed} parts left on the belt went past the passed eye").into(),
            "They were not judged: get them back from behind the passed eye. Clear the belt from the photo-eye on, then acknowledge.",
        ),
        About::Nothing | About::OnBelt(_) => {
            let (text, advice) = words(kind);
            (text.into(), advice)
        }
    };
    (text, advice.into())
}

/// Text and advice of an alarm.
pub fn words(kind: AlarmKind) -> (&'static str, &'static str) {
    match kind {
        AlarmKind::AcknowledgeNeeded => (
            "Not acknowledged since start",
            "Check that the belt is clear, then acknowledge.",
        ),
        AlarmKind::PartsUnaccounted => (
            "Parts were on the belt when the station stopped",
            "Remove every part from photo-eye to end of the belt, then acknowledge.",
        ),
        AlarmKind::RejectNotConfirmed => (
            "A rejected part did not reach the chute",
            "Look for it on the belt and in the rejecter; check air and chute eye; then acknowledge.",
        ),
        AlarmKind::Escape => (
            "A bad part passed the rejecter",
            "Remove it behind the rejecter; check air pressure and reject timing; then acknowledge.",
        ),
        AlarmKind::GoodPartMissing => (
            "A good part did not arrive behind the rejecter",
            "Look for a jam or a part that was taken away; check the passed eye.",
        ),
        AlarmKind::BinFull => ("The reject bin is full", "Empty the bin, then acknowledge."),
        AlarmKind::AirLow => ("Air pressure is low", "Restore the air supply, then acknowledge."),
        AlarmKind::ConsecutiveRejects => (
            "Many rejects in a row",
            "Look at the last rejected parts: a fault of the process, the light or the recipe? Then acknowledge.",
        ),
        AlarmKind::CameraLost => (
            "The camera delivers no pictures",
            "Check its cable and power; then acknowledge.",
        ),
        AlarmKind::OutputsLost => (
            "The output process does not answer",
            "It restarts by itself; if not, restart the station. Then acknowledge.",
        ),
        AlarmKind::LedgerFull => (
            "More parts on the belt than the station can follow",
            "Clear the belt; check the photo-eye for dirt; then acknowledge.",
        ),
        AlarmKind::LateResult => (
            "A result came too late",
            "Parts come faster than they can be inspected: lower belt speed or feed, or use a smaller model.",
        ),
        AlarmKind::BeltSpeed => (
            "The belt runs outside its speed limits, or without permit",
            "Check drive and permit wiring, or correct [belt] speed_mm_s.",
        ),
        AlarmKind::BeltBackward => (
            "The belt runs backward, by its encoder",
            "If it does not: set reverse = true in [belt.encoder], or swap the encoder's lines. Clear the belt, then acknowledge.",
        ),
        AlarmKind::EncoderSlip => (
            "Encoder and sensors disagree: positions are lost",
            "Check encoder wheel and its coupling; clear the belt; then acknowledge.",
        ),
        AlarmKind::PulseFault => (
            "A reject pulse was refused, lost or cut short",
            "Look for a bad part behind the rejecter; check max_on_ms and the part length; then acknowledge.",
        ),
        AlarmKind::PartWithoutTrigger => (
            "A part was seen that the photo-eye missed",
            "Remove it: it was not judged. Check the photo-eye's aim and cable; then acknowledge.",
        ),
        AlarmKind::SensorStuck => (
            "A sensor stays covered",
            "Clean or free photo-eye, chute eye and passed eye; then acknowledge.",
        ),
        AlarmKind::Trouble(trouble) => trouble_words(trouble),
    }
}

fn trouble_words(trouble: Trouble) -> (&'static str, &'static str) {
    match trouble {
        Trouble::Record => (
            "The record cannot be written",
            "Check the disk and [record] path; inspection goes on.",
        ),
        Trouble::DiskLow => (
            "The disk is nearly full",
            "Free space on the disk; pictures are not kept meanwhile.",
        ),
        Trouble::Display => (
            "The display cannot be drawn",
            "Check the display's cable; inspection goes on.",
        ),
        Trouble::Queue => (
            "The station could not keep up",
            "Lower belt speed or feed; report this if it comes again. Then acknowledge.",
        ),
        Trouble::EdgesLost => (
            "Edges of a sensor were lost",
            "Clear the belt; check for a flickering sensor; then acknowledge.",
        ),
        Trouble::LinesLost => (
            "Input lines cannot be read",
            "Check the input module and its cable (`elek probe`); clear the belt; then acknowledge.",
        ),
    }
}

/// How grave an alarm is: lower comes first on the display.
pub fn severity(kind: AlarmKind) -> u8 {
    match kind {
        AlarmKind::Escape => 0,
        AlarmKind::RejectNotConfirmed | AlarmKind::PulseFault | AlarmKind::PartWithoutTrigger => 1,
        AlarmKind::OutputsLost
        | AlarmKind::CameraLost
        | AlarmKind::EncoderSlip
        | AlarmKind::BeltBackward
        | AlarmKind::LedgerFull
        | AlarmKind::Trouble(Trouble::LinesLost) => 2,
        AlarmKind::Trouble(Trouble::Queue | Trouble::EdgesLost) | AlarmKind::SensorStuck => 3,
        AlarmKind::BinFull | AlarmKind::AirLow | AlarmKind::ConsecutiveRejects => 4,
        AlarmKind::PartsUnaccounted | AlarmKind::BeltSpeed | AlarmKind::GoodPartMissing => 5,
        AlarmKind::LateResult | AlarmKind::Trouble(_) => 6,
        AlarmKind::AcknowledgeNeeded => 7,
    }
}

/// Every kind there is, for tables that hold one of each.
pub const ALL: [AlarmKind; 24] = [
    AlarmKind::AcknowledgeNeeded,
    AlarmKind::PartsUnaccounted,
    AlarmKind::RejectNotConfirmed,
    AlarmKind::Escape,
    AlarmKind::GoodPartMissing,
    AlarmKind::BinFull,
    AlarmKind::AirLow,
    AlarmKind::ConsecutiveRejects,
    AlarmKind::CameraLost,
    AlarmKind::OutputsLost,
    AlarmKind::LedgerFull,
    AlarmKind::LateResult,
    AlarmKind::BeltSpeed,
    AlarmKind::EncoderSlip,
    AlarmKind::BeltBackward,
    AlarmKind::PulseFault,
    AlarmKind::PartWithoutTrigger,
    AlarmKind::SensorStuck,
    AlarmKind::Trouble(Trouble::Record),
    AlarmKind::Trouble(Trouble::DiskLow),
    AlarmKind::Trouble(Trouble::Display),
    AlarmKind::Trouble(Trouble::Queue),
    AlarmKind::Trouble(Trouble::EdgesLost),
    AlarmKind::Trouble(Trouble::LinesLost),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_alarm_has_words_of_its_own() {
        let texts: BTreeSet<_> = ALL.into_iter().map(words).collect();
        assert_eq!(texts.len(), ALL.len());
        for (text, advice) in texts {
            assert!(text.len() <= 60, "too long for the display: {text}");
            assert!(advice.ends_with('.'), "{advice}");
        }
    }

    #[test]
    fn parts_left_on_the_belt_are_counted_in_words() {
        let unaccounted = |parts| words_about(AlarmKind::PartsUnaccounted, About::OnBelt(parts)).0;
        assert_eq!(unaccounted(0), words(AlarmKind::PartsUnaccounted).0);
        assert!(unaccounted(1).starts_with("1 part was"), "{}", unaccounted(1));
        assert!(unaccounted(7).starts_with("7 parts were"), "{}", unaccounted(7));
        let left = |passed| words_about(AlarmKind::PartWithoutTrigger, About::LeftOnBelt { passed });
        assert!(left(0).0.contains("under the camera"));
        assert!(left(1).0.starts_with("1 part left") && left(1).1.starts_with("It was"));
        assert!(left(3).0.starts_with("3 parts left") && left(3).1.starts_with("They were"));
        assert!(left(9_999).0.len() <= 60, "too long for the display");
    }
}
