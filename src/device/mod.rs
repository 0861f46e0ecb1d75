//! The doors to the world. Nothing else of elek touches a device, and each door
//! is an `enum` with a simulated twin, so that everything behind it runs the same
//! with and without hardware.
//!
//! | door | real | simulated |
//! |---|---|---|
//! | [`lines::OutputPort`] | [`gpio`] | [`simchip::SimLines`] |
//! | [`gpio::edges::EdgeLine`] | edges of an input line | the simulated world sends events itself |
//! | [`counter::Counter`] | the kernel's counters | as above |
//! | [`quadrature`] | – | an encoder's edges to counts: pure |
//! | [`clock`] | `CLOCK_MONOTONIC` and nothing else | time as a value: the core and the simulation never ask a clock |
//! | [`camera`] | V4L2 | frames that the simulation delivers |
//! | [`framebuffer`] | the kernel's framebuffer | a picture file |
//! | [`panel::Panel`] | small panels on spidev and i2c-dev | in tests, a bus that makes the picture out of what it is told |
//! | [`folder`] | – | a folder of pictures in place of a camera |
//! | [`mapped`] | a mapped file of the record | the same |
//! | [`realtime`] | priority and locked memory | – |
//! | [`watchdog`] | the board's own watchdog | – |
//!
//! `unsafe` is allowed here and in `kernels/` only (invariant 12).

pub mod camera;
pub mod clock;
pub mod counter;
pub mod folder;
pub mod framebuffer;
pub mod gpio;
pub mod lines;
pub mod mapped;
pub mod panel;
pub mod quadrature;
pub mod realtime;
pub mod simchip;
pub mod watchdog;
mod words;
