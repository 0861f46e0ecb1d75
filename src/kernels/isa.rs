//! Which instructions the processor has, and plain code compiled for them.

use super::depthwise::Strips;
use super::gemm::Tiles;
use super::portable::BinaryRows;
use std::sync::OnceLock;

/// Something to do whose loops the compiler should vectorize.
///
/// For safe code without fused operations: the instructions differ between processors, the bits cannot. `run` and all
/// that matters in it should be `#[inline(always)]`; what is not inlined is compiled for the base as usual.
/// (A trait instead of a closure, because a closure cannot be told to be inlined.)
pub trait Work {
    type Output;
    fn run(self) -> Self::Output;
}

/// [`Isa::widest`] of [`Isa::best`].
pub fn widest<W: Work>(work: W) -> W::Output {
    Isa::best().widest(work)
}

/// Asks for a processor with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<W: Work>(work: W) -> W::Output {
    work.run()
}

/// Asks for a processor with these.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
fn with_avx512<W: Work>(work: W) -> W::Output {
    work.run()
}

/// An instruction set that there are kernels for. A value is the proof that this processor has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Kind);

static BEST: OnceLock<Isa> = OnceLock::new();

/// All that exist, on whatever processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// Without VBMI (Cascade Lake) tables are looked up byte by byte.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "x86_64")]
    Avx512VnniVbmi,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "aarch64")]
    NeonDot,
}

impl Kind {
    /// The weakest first.
    const ALL: &[Kind] = &[
        Kind::Portable,
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2,
        #[cfg(target_arch = "x86_64")]
        Kind::AvxVnni,
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni,
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512VnniVbmi,
        #[cfg(target_arch = "aarch64")]
        Kind::Neon,
        #[cfg(target_arch = "aarch64")]
        Kind::NeonDot,
    ];

    fn is_here(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        let avx512_vnni = || {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
                && is_x86_feature_detected!("avx2")
        };
        match self {
            Kind::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => avx512_vnni(),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512VnniVbmi => avx512_vnni() && is_x86_feature_detected!("avx512vbmi"),
            // Part of every 64-bit ARM.
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => true,
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDot => std::arch::is_aarch64_feature_detected!("dotprod"),
        }
    }
}

impl Isa {
    /// What every processor has.
    pub const PORTABLE: Isa = Isa(Kind::Portable);

    /// What this program uses: the fastest of this processor, or the one that [`Isa::limit`] chose.
    pub fn best() -> Isa {
        *BEST.get_or_init(|| Isa::all().pop().unwrap_or(Isa::PORTABLE))
    }

    /// Makes this [`Isa::best`]. To be said before anything is run; the error is what is in use already.
    pub fn limit(isa: Isa) -> Result<(), Isa> {
        let best = *BEST.get_or_init(|| isa);
        if best == isa { Ok(()) } else { Err(best) }
    }

    /// All of this processor, the weakest first.
    pub fn all() -> Vec<Isa> {
        Kind::ALL
            .iter()
            .filter(|k| k.is_here())
            .map(|k| Isa(*k))
            .collect()
    }

    /// That of this name, if this processor has it. Case does not matter.
    pub fn named(name: &str) -> Option<Isa> {
        Isa::all()
            .into_iter()
            .find(|isa| isa.name().eq_ignore_ascii_case(name))
    }

    /// As shown to people, and as [`Isa::named`] takes it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => "AVX-VNNI",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => "AVX512-VNNI",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512VnniVbmi => "AVX512-VNNI-VBMI",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "NEON",
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDot => "NEON-dotprod",
        }
    }

    /// Multiply-accumulates that a convolution does in a µs, roughly: enough to tell large ones from small ones.
    pub fn macs_per_us(self) -> u64 {
        match self.0 {
            Kind::Portable => 4_000,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => 50_000,
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => 100_000,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni | Kind::Avx512VnniVbmi => 200_000,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => 8_000,
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDot => 40_000,
        }
    }

    /// Does the work with code compiled for this instruction set, but with vectors no wider than those of AVX2: for
    /// loops that are not those of an integer kernel, where wider ones were not seen to pay off.
    pub fn widest<W: Work>(self, work: W) -> W::Output {
        match self.0 {
            // SAFETY: the token is the proof; all of them have AVX2.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::AvxVnni | Kind::Avx512Vnni | Kind::Avx512VnniVbmi => unsafe {
                with_avx2(work)
            },
            _ => work.run(),
        }
    }

    /// Does the work with code compiled for this instruction set: see [`Work`].
    pub(super) fn run<W: Work>(self, work: W) -> W::Output {
        match self.0 {
            Kind::Portable => work.run(),
            // SAFETY: the token is the proof.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::AvxVnni => unsafe { with_avx2(work) },
            // SAFETY: the token is the proof.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni | Kind::Avx512VnniVbmi => unsafe { with_avx512(work) },
            // Part of the base.
            #[cfg(target_arch = "aarch64")]
            Kind::Neon | Kind::NeonDot => work.run(),
        }
    }

    /// The sum or product of two tensors.
    pub(super) fn binary(self, rows: BinaryRows) {
        match self.0 {
            // SAFETY: the token is the proof.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => unsafe { super::x86::binary_avx512(rows) },
            // SAFETY: the token is the proof.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512VnniVbmi => unsafe { super::x86::binary_avx512_vbmi(rows) },
            _ => self.run(rows),
        }
    }

    /// Kernels for the sums of tiles.
    pub(super) fn tiles(self) -> Option<&'static Tiles> {
        match self.0 {
            Kind::Portable => None,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => Some(&super::x86::AVX2),
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => Some(&super::x86::AVX_VNNI),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => Some(&super::x86::AVX512_VNNI),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512VnniVbmi => Some(&super::x86::AVX512_VNNI_VBMI),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => Some(&super::neon::NEON),
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDot => Some(&super::neon::DOT),
        }
    }

    /// Kernels for depthwise convolution.
    pub(super) fn strips(self) -> Option<&'static Strips> {
        match self.0 {
            Kind::Portable => None,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::AvxVnni => Some(&super::x86::AVX2_STRIPS),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => Some(&super::x86::AVX512_STRIPS),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512VnniVbmi => Some(&super::x86::AVX512_VBMI_STRIPS),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon | Kind::NeonDot => Some(&super::neon::STRIPS),
        }
    }
}
