//! Sums and products of two tensors with the vectors of AVX-512.

use super::super::binary::{BinaryOp, Operand};
use super::super::finish;
use super::super::portable::BinaryRows;
use super::finish::{Epilogue, MemoryTable, Steps, Table, byte_mask, lane_mask};
use std::arch::x86_64::*;

/// One operand of a run: bytes side by side, or one for all. Their values in f32 are made of them.
#[derive(Clone, Copy)]
struct OperandRun {
    from: *const u8,
    one: Option<__m512>,
    zero: __m512,
    scale: __m512,
}

impl OperandRun {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn new(bytes: &[u8], length: usize, one: bool, operand: &Operand) -> OperandRun {
        let bytes = if one { &bytes[..1] } else { &bytes[..length] };
        let mut run = OperandRun {
            from: bytes.as_ptr(),
            one: None,
            zero: _mm512_set1_ps(operand.zero.into()),
            scale: _mm512_set1_ps(operand.scale),
        };
        if let (true, [byte]) = (one, bytes) {
            run.one = Some(run.value(_mm_set1_epi8(*byte as i8)));
        }
        run
    }

    /// 16 values from index `at` on.
    ///
    /// # Safety
    /// They are there, and not one for all.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn sixteen(&self, at: usize) -> __m512 {
        // SAFETY: the caller's promise.
        self.value(unsafe { _mm_loadu_si128(self.from.wrapping_add(at).cast()) })
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
        self.value(unsafe { _mm_maskz_loadu_epi8(mask, self.from.wrapping_add(at).cast()) })
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn value(&self, bytes: __m128i) -> __m512 {
        let steps = _mm512_sub_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)), self.zero);
        _mm512_mul_ps(steps, self.scale)
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn both(op: BinaryOp, a: __m512, b: __m512) -> __m512 {
    match op {
        BinaryOp::Add => _mm512_add_ps(a, b),
        BinaryOp::Mul => _mm512_mul_ps(a, b),
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
            let epilogue = Epilogue::new(&spec.finish, None);
            let steps = Steps::new(spec.step);
            let one = |operand: &Operand| operand.layout.channels == 1 && layout.channels != 1;
            let one = [one(&spec.a), one(&spec.b)];
            for y in work.rows.clone() {
                for x in 0..runs {
                    let a = OperandRun::new(
                        &work.a[BinaryRows::start(&spec.a, y, x)..],
                        length,
                        one[0],
                        &spec.a,
                    );
                    let b = OperandRun::new(
                        &work.b[BinaryRows::start(&spec.b, y, x)..],
                        length,
                        one[1],
                        &spec.b,
                    );
                    let out = &mut work.output[layout.at(y - work.rows.start, x)..][..length];
                    let mut at = 0;
                    macro_rules! put {
                        ($values:expr, $left:expr) => {{
                            let mut done = epilogue.finish($values);
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
                        ($op:expr) => {
                            while at + 64 <= length {
                                // SAFETY: 64 bytes are left of all three.
                                unsafe {
                                    macro_rules! values {
                                        ($j:literal) => {
                                            steps.of(both(
                                                $op,
                                                a.sixteen(at + 16 * $j),
                                                b.sixteen(at + 16 * $j),
                                            ))
                                        };
                                    }
                                    put!([values!(0), values!(1), values!(2), values!(3)], 64);
                                }
                            }
                        };
                    }
                    if one == [false; 2] {
                        match spec.op {
                            BinaryOp::Add => blocks!(BinaryOp::Add),
                            BinaryOp::Mul => blocks!(BinaryOp::Mul),
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
                                    steps.of(both(spec.op, a, b.values(at + 16 * $j, mask)))
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
