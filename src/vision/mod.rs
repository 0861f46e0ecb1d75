//! From a raw frame to a model's input.
//!
//! Duties: check that a frame is whole ([`frame`]), find what lies on the belt in it ([`locate`]), and
//! turn the piece a model is to see into its u8 RGB input ([`preprocess`], with [`decode`] for the
//! pixel formats and [`resample`] for the scale). Nothing here knows time, parts or verdicts.
//!
//! Terms: a *cell* is one sample of the coarse grid in which blobs are looked for; a *blob* is a
//! connected group of cells that stands out from the belt; the *view* is the rectangle of the picture
//! that a model's input shows.
//!
//! Two promises hold for all of it but JPEG decoding: the same frame gives the same bits on every
//! machine (integers, and f64 only for the resampling weights, in basic operations that IEEE 754
//! defines exactly), and after the first frames of a size nothing is allocated (invariants 8 and 9).

pub mod decode;
pub mod frame;
pub mod locate;
pub mod preprocess;
pub mod resample;

#[cfg(test)]
mod decode_tests;

pub use decode::{Rect, rect_to_rgb, to_rgb};
pub use frame::{Frame, FrameError, PixelFormat};
pub use locate::{Locator, PartSize};
pub use preprocess::{Preprocessor, View};
