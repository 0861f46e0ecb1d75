//! Numbers that do not fit each other, found when a kernel is made instead of when it runs.

/// Why a kernel cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfit(&'static str);

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Misfit {}

pub fn ensure(holds: bool, otherwise: &'static str) -> Result<(), Misfit> {
    if holds { Ok(()) } else { Err(Misfit(otherwise)) }
}

/// Largest index along an axis that windows may count to, in either direction: far from where `isize` ends, also on
/// 32-bit processors.
const INDEX_MAX: usize = 1 << 30;

/// That `at × stride + k × dilation − pad` can be reckoned for each window position of `length` outputs.
pub fn axis(length: usize, kernel: usize, stride: usize, dilation: usize, pad: isize) -> Result<(), Misfit> {
    let last = |count: usize, step: usize| count.saturating_sub(1).saturating_mul(step);
    let farthest = last(length, stride).saturating_add(last(kernel, dilation));
    ensure(
        farthest <= INDEX_MAX && pad.unsigned_abs() <= INDEX_MAX,
        "a window reaches too far",
    )?;
    ensure(dilation > 0, "a window has a dilation of 0")
}

/// That a table of bytes has an entry for each byte.
pub fn table(table: Option<&[u8]>) -> Result<(), Misfit> {
    ensure(
        table.is_none_or(|t| t.len() == 256),
        "a table has another number of entries than 256",
    )
}
