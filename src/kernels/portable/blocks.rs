//! Runs of values in blocks of a length that the compiler knows.

use super::super::finish::Finish;

/// Values that are worked on at a time. A loop of this length has no remainder.
pub const BLOCK: usize = 64;

/// The same for what is left of blocks.
pub const SMALL: usize = 16;

/// Has `fill` make the values of some indices, which begin with the given one, and finishes them: the values first,
/// then their bytes, so that neither loop decides anything. Blocks of a length that the compiler knows have no
/// remainder.
#[inline(always)]
pub fn finished(finish: &Finish, out: &mut [u8], fill: impl Fn(usize, &mut [f32])) {
    let at = blocks::<BLOCK>(finish, out, 0, &fill);
    let at = blocks::<SMALL>(finish, out, at, &fill);
    let mut values = [0.0f32; SMALL];
    let values = &mut values[..out.len() - at];
    fill(at, values);
    finish.bytes(values, &mut out[at..]);
}

#[inline(always)]
fn blocks<const N: usize>(
    finish: &Finish,
    out: &mut [u8],
    start: usize,
    fill: &impl Fn(usize, &mut [f32]),
) -> usize {
    let mut at = start;
    while at + N <= out.len() {
        let mut values = [0.0f32; N];
        fill(at, &mut values);
        finish.bytes(&values, &mut out[at..at + N]);
        at += N;
    }
    at
}
