//! Which instructions the processor has, and plain code compiled for them.

/// Something to do whose loops the compiler should vectorize.
///
/// For safe integer code: the instructions differ between processors, the bits cannot. `run` and all
/// that it calls must be `#[inline(always)]`; what is not inlined is compiled for the base as usual.
/// (A trait instead of a closure, because a closure cannot be told to be inlined.)
pub trait Work {
    type Output;
    fn run(self) -> Self::Output;
}

/// Does the work with the widest vectors that this processor has and that pay off. On ARM the vectors
/// are part of the base (NEON), and nothing is chosen.
pub fn widest<W: Work>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 was detected in the line above, which is all that `with_avx2` asks for.
        return unsafe { with_avx2(work) };
    }
    work.run()
}

/// Asks for a processor with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<W: Work>(work: W) -> W::Output {
    work.run()
}

/// The instruction sets beyond the base that matter to this program and that this processor has, the
/// weakest first.
pub fn found() -> Vec<&'static str> {
    let mut found = Vec::new();
    let mut note = |name, there| {
        if there {
            found.push(name);
        }
    };
    #[cfg(target_arch = "x86_64")]
    {
        note("AVX2", std::arch::is_x86_feature_detected!("avx2"));
        note("AVX-VNNI", std::arch::is_x86_feature_detected!("avxvnni"));
        let vnni = std::arch::is_x86_feature_detected!("avx512vnni");
        note(
            "AVX512-VNNI",
            vnni && std::arch::is_x86_feature_detected!("avx512vl"),
        );
    }
    #[cfg(target_arch = "aarch64")]
    {
        note("NEON", std::arch::is_aarch64_feature_detected!("neon"));
        note("dotprod", std::arch::is_aarch64_feature_detected!("dotprod"));
        note("i8mm", std::arch::is_aarch64_feature_detected!("i8mm"));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    note("", false);
    found
}

/// An instruction set that there are kernels for. A value is the proof that this processor has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Portable,
}

impl Isa {
    /// What every processor has.
    pub const PORTABLE: Isa = Isa(Kind::Portable);

    /// The fastest of this processor.
    pub fn best() -> Isa {
        Isa::PORTABLE
    }

    /// All of this processor, the weakest first.
    pub fn all() -> Vec<Isa> {
        vec![Isa::PORTABLE]
    }

    /// As shown to people.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
        }
    }
}
