//! The least time a network can take on a kind of core.
//!
//! Lower bounds: multiply-accumulates divided by what one core issues at best of the
//! inner loops of `kernels/neon`, nothing lost to memory and to all that is not such a loop.
//! docs/INFERENCE.md has what was counted of them.

use super::{Finding, Line, draft, timing::camera_takes, timing::time_for};
use crate::station::judge::{Quantity, Rule};
use crate::units::Micros;
use clap::ValueEnum;

/// A kind of core at the clock of the boards it is usually found on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Soc {
    /// 1.4 GHz, as in the Raspberry Pi 3
    #[value(name = "cortex-a53", alias = "a53")]
    CortexA53,
    /// 1.8 GHz, as in the Raspberry Pi 4
    #[value(name = "cortex-a72", alias = "a72")]
    CortexA72,
    /// 2.4 GHz with dot product, as in the Raspberry Pi 5
    #[value(name = "cortex-a76", alias = "a76")]
    CortexA76,
}

impl Soc {
    /// int8 multiply-accumulates per second of one core at full issue rate.
    fn macs_per_s(self) -> f64 {
        match self {
            // For 1024 (4 pixels, 16 channels, 16 values each) 230 instructions on vectors of 128 bits, of which one
            // is issued a cycle. (Arm has no guide for this core: that is how LLVM and GCC describe it.)
            Soc::CortexA53 => 1.4e9 * 1024.0 / 230.0,
            // Of these, 128 are widening multiplications of 8, and one of two pipes does them, one a cycle; all others
            // fit beside them. Cortex-A72 Software Optimization Guide, Arm UAN 0016A.
            Soc::CortexA72 => 1.8e9 * 8.0,
            // For 1280 (5 pixels) 80 dot products of 16 and 5 instructions that make values signed, two a cycle.
            // Cortex-A76 Software Optimization Guide, Arm PJDOC-466751330-7215.
            Soc::CortexA76 => 2.4e9 * 1280.0 / 42.5,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Soc::CortexA53 => "Cortex-A53 1.4 GHz",
            Soc::CortexA72 => "Cortex-A72 1.8 GHz",
            Soc::CortexA76 => "Cortex-A76 2.4 GHz",
        }
    }

    /// Least time of one inference on one core.
    pub fn bound(self, macs: u64) -> Micros {
        Micros::new((macs as f64 / self.macs_per_s() * 1e6).round() as i64)
    }
}

pub(super) fn recipe(line: &Line<'_>, out: &mut Vec<Finding>) {
    let Some(soc) = line.facts.soc else { return };
    let recipe = line.recipe;
    let mut times = [Micros::ZERO; 2];
    let models = [("classify", &recipe.classify), ("segment", &recipe.segment)];
    for (time, (key, model)) in times.iter_mut().zip(models) {
        let Some(model) = model else { continue };
        let Some(macs) = model.macs else {
            let numbers = format!("{} does not state its macs", model.name);
            out.push(draft("network", line.recipe_key(key), numbers).warn(
                "how long this network takes at least cannot be told",
                "add `macs` (multiply-accumulates of one inference) to its entry in manifest.toml",
            ));
            return;
        };
        *time = soc.bound(macs);
    }
    let [classify, segment] = times;
    // A good part has to get past every rule, so one mask rule without an excuse asks for its mask.
    let rules = || recipe.rules.pass_if.iter().chain(&recipe.rules.reject_if);
    let asks = |rule: &&Rule| matches!(rule.quantity, Quantity::Defect { .. });
    let mask_always = rules().filter(asks).any(|rule| rule.unless.is_none());
    let longest = match rules().any(|rule| asks(&rule)) {
        true => classify + segment,
        false => classify,
    };
    let usual = if mask_always { longest } else { classify };
    let pitch = time_for(line.config.belt.speed_max, recipe.pitch_min());
    let when = if mask_always {
        "every part"
    } else {
        "doubtful parts alone"
    };
    let numbers = format!(
        "on one {} core at least classify {classify}, segment {segment} ({when}); a part every {pitch}, \
         decide_within_ms {}",
        soc.name(),
        recipe.decide_within
    );
    let key = line.recipe_key(if recipe.classify.is_some() {
        "classify"
    } else {
        "segment"
    });
    let finding = draft("network", key, numbers);
    let advice = "use a smaller network or a faster box, slow the belt, or ask for a larger gap";
    out.push(if usual > pitch {
        finding.error(
            "too heavy for this core",
            "the networks take longer than the parts need to follow each other: the queue only grows",
            advice,
        )
    } else if longest + camera_takes(line.camera) > recipe.decide_within {
        finding.error(
            "too heavy for decide_within_ms",
            "no verdict can come in the time the recipe allows",
            advice,
        )
    } else if usual.get() * 2 > pitch.get() {
        finding.warn(
            "real networks take two to three times their lower bound, so this will be tight",
            advice,
        )
    } else if longest > pitch {
        finding.warn(
            "doubtful parts in a row queue up: with its mask, a part takes longer than its turn",
            advice,
        )
    } else {
        finding.ok("a lower bound: measure with `elek bench` on the box itself")
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_docs_hardware() {
        // EfficientNet-Lite0, ResNet50, U-Net on ResNet50, in multiply-accumulates and ms.
        let table = [
            (Soc::CortexA53, [62, 656, 2418]),
            (Soc::CortexA72, [27, 284, 1047]),
            (Soc::CortexA76, [5, 57, 208]),
        ];
        for (soc, wanted) in table {
            for (macs, ms) in [389_000_000, 4_089_000_000, 15_070_000_000]
                .into_iter()
                .zip(wanted)
            {
                let found = soc.bound(macs).as_millis_f64();
                assert!(
                    (found - f64::from(ms)).abs() <= 1.0,
                    "{soc:?}: {found} against {ms}"
                );
            }
        }
    }
}
