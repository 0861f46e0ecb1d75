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
