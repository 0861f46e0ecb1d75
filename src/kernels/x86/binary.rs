//! Sums and products of two tensors with the vectors of AVX-512.

use super::super::binary::{BinaryOp, Operand};
use super::super::finish;
use super::super::portable::BinaryRows;
use super::finish::{Ends, MemoryTable, Table, byte_mask, lane_mask};
use std::arch::x86_64::*;

/// One operand of a run: bytes side by side, or one for all. The zero point is taken off.
#[derive(Clone, Copy)]
struct OperandRun {
    from: *const u8,
    one: Option<__m512>,
    zero: __m512,
}

impl OperandRun {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn new(bytes: &[u8], length: usize, one: bool, zero: __m512) -> OperandRun {
        let bytes = if one { &bytes[..1] } else { &bytes[..length] };
        let spread = _mm512_sub_ps(
            _mm512_set1_ps(f32::from(bytes.first().copied().unwrap_or(0))),
            zero,
        );
        OperandRun {
            from: bytes.as_ptr(),
            one: if one { Some(spread) } else { None },
            zero,
        }
    }

    /// 16 values from index `at` on.
    ///
    /// # Safety
    /// They are there, and not one for all.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn sixteen(&self, at: usize) -> __m512 {
        // SAFETY: the caller's promise.
        self.less_zero(unsafe { _mm_loadu_si128(self.from.wrapping_add(at).cast()) })
    }

    /// Those lanes of the 16 values from index `at` on that `mask` names.
    ///
    /// # Safety
    /// They are there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn values(&self, at: usize, mask: __mmask16) -> __m512 {
        if let Some(one) = self.one {
            return one;
        }
        // SAFETY: the caller's promise.
        self.less_zero(unsafe { _mm_maskz_loadu_epi8(mask, self.from.wrapping_add(at).cast()) })
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn less_zero(&self, bytes: __m128i) -> __m512 {
        _mm512_sub_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)), self.zero)
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn added(a: __m512, a_ratio: __m512, b: __m512, b_ratio: __m512) -> __m512 {
    _mm512_add_ps(_mm512_mul_ps(a, a_ratio), _mm512_mul_ps(b, b_ratio))
}

/// Products of 9 bits by 9 bits are exact as f32.
#[inline]
#[target_feature(enable = "avx512f")]
fn multiplied(a: __m512, b: __m512, ratio: __m512) -> __m512 {
    _mm512_mul_ps(_mm512_mul_ps(a, b), ratio)
}

#[derive(Clone, Copy)]
enum Op {
    Add(__m512, __m512),
    Mul(__m512),
}

impl Op {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn of(self, a: __m512, b: __m512) -> __m512 {
        match self {
            Op::Add(a_ratio, b_ratio) => added(a, a_ratio, b, b_ratio),
            Op::Mul(ratio) => multiplied(a, b, ratio),
        }
    }
}

macro_rules! binary {
    ($name:ident, $features:literal, $table:expr) => {
        /// Wide tables are looked up in plain loops.
        #[target_feature(enable = $features)]
        pub fn $name(work: BinaryRows) {
            let (runs, length) = work.runs();
            let spec = work.spec;
            let layout = &spec.output;
            let table = match spec.finish.table_kind() {
                finish::Table::None => None,
                finish::Table::Bytes(table) => Some($table(table)),
                finish::Table::Wide => return super::super::isa::Work::run(work),
            };
            let ends = Ends::new(&spec.finish, None);
            let op = match spec.op {
                BinaryOp::Add { a_ratio, b_ratio } => {
                    Op::Add(_mm512_set1_ps(a_ratio), _mm512_set1_ps(b_ratio))
                }
                BinaryOp::Mul { ratio } => Op::Mul(_mm512_set1_ps(ratio)),
            };
            let one = |operand: &Operand| operand.layout.channels == 1 && layout.channels != 1;
            let one = [one(&spec.a), one(&spec.b)];
            let zeros = [
                _mm512_set1_ps(spec.a.zero.into()),
                _mm512_set1_ps(spec.b.zero.into()),
            ];
            for y in work.rows.clone() {
                for x in 0..runs {
                    let a = OperandRun::new(
                        &work.a[BinaryRows::start(&spec.a, y, x)..],
                        length,
                        one[0],
                        zeros[0],
                    );
                    let b = OperandRun::new(
                        &work.b[BinaryRows::start(&spec.b, y, x)..],
                        length,
                        one[1],
                        zeros[1],
                    );
                    let out = &mut work.output[layout.at(y - work.rows.start, x)..][..length];
                    let mut at = 0;
                    macro_rules! put {
                        ($values:expr, $left:expr) => {{
                            let mut done = ends.finish($values);
                            if let Some(table) = &table {
                                done = table.look_up(done);
                            }
                            let out = out.as_mut_ptr().add(at).cast();
                            _mm512_mask_storeu_epi8(out, byte_mask($left), done);
                            at += 64;
                        }};
                    }
                    // Whole blocks of bytes side by side, where nothing is left to be decided.
                    macro_rules! blocks {
                        ($of:expr) => {
                            while at + 64 <= length {
                                // SAFETY: 64 bytes are left of all three.
                                unsafe {
                                    macro_rules! values {
                                        ($j:literal) => {
                                            $of(a.sixteen(at + 16 * $j), b.sixteen(at + 16 * $j))
                                        };
                                    }
                                    put!([values!(0), values!(1), values!(2), values!(3)], 64);
                                }
                            }
                        };
                    }
                    if one == [false; 2] {
                        match op {
                            Op::Add(r, s) => blocks!(|a, b| added(a, r, b, s)),
                            Op::Mul(r) => blocks!(|a, b| multiplied(a, b, r)),
                        }
                    }
                    while at < length {
                        let left = length - at;
                        // SAFETY: no more than the bytes that are left are read and written.
                        unsafe {
                            macro_rules! values {
                                ($j:literal) => {{
                                    let mask = lane_mask(left, $j);
                                    let a = a.values(at + 16 * $j, mask);
                                    op.of(a, b.values(at + 16 * $j, mask))
                                }};
                            }
                            put!([values!(0), values!(1), values!(2), values!(3)], left);
                        }
                    }
                }
            }
        }
    };
}

binary!(with_avx512, "avx512f,avx512bw,avx512vl", MemoryTable);
binary!(
    with_avx512_vbmi,
    "avx512f,avx512bw,avx512vl,avx512vbmi",
    Table::new
);
