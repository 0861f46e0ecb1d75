//! Code that depends on the processor. One of the two homes of `unsafe`.
//!
//! | file | duty |
//! |---|---|
//! | [`check`] | why a kernel cannot be made |
//! | [`isa`] | which instructions there are, and plain code compiled for them |
//! | [`layout`] | where the values of a tensor of bytes lie |
//! | [`finish`] | from a sum to a byte: the end of every integer kernel |
//! | [`conv`] | convolution, dense, grouped, depthwise; a matrix product is one of 1 × 1 |
//! | [`binary`] | add and multiply two tensors, with broadcast |
//! | [`spatial`] | pooling, resizing, padding, copies with a table |
//! | [`float`] | between f32 and bytes; softmax |
//! | [`mod@reference`] | the specification of all these, one value at a time |
//! | `portable` | the same in loops that a compiler can vectorize, for processors without kernels of their own |
//! | [`team`] | threads that share a step |
//! | `gemm`, `depthwise` | what the kernels for convolution of all instruction sets share: packing, order of work |
//! | `sources`, `padded` | where windows look, and what stands outside of the input |
//! | `unrolled` | loops that are written out |
//! | `store` | from the sums of a tile to their places |
//! | `x86`, `neon` | the instruction sets: sums of tiles, rows of depthwise convolution, the finish in vectors |
//!
//! A tensor is a slice of bytes in the order height, width, channel. A kernel is made once
//! (weights packed, tables built) and then run for a range of output rows, so that threads can share the
//! work; it allocates nothing while it runs. Whatever the processor, the bits are those of [`mod@reference`].
//!
//! One more instruction set is a variant of [`isa::Isa`] with its detection and name, an arm in `Isa::run` and, where
//! it has vectors of its own for that, in `Isa::binary`; a `Tiles` (sums of tiles, and how to store them) and a
//! `Strips` (a row of depthwise convolution). The tests run over all that the processor has.

pub mod binary;
pub mod check;
pub mod conv;
pub mod finish;
pub mod float;
pub mod isa;
pub mod layout;
mod padded;
mod portable;
pub mod reference;
mod sources;
pub mod spatial;
pub mod team;

// Used by the kernels of instruction sets only.
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
mod depthwise;
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
mod gemm;
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
mod store;

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod unrolled;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;
