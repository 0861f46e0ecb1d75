//! The built-in line: a physical world with a belt, parts, sensors and a reject,
//! and the virtual-time simulation that drives the shipped station core with it.
//!
//! | module | duty |
//! |---|---|
//! | [`world`] | the physical line; used in virtual time by the simulation and in real time by `elek demo` and `elek run` |
//! | [`part`] | what a part really is, and the line's own account of what really happened |
//! | [`drive`] | belt motor and encoder |
//! | [`rejecter`] | the actuator: response, spread, getting stuck |
//! | [`mod@line`] | a drawn line, within the arithmetic of a station |
//! | [`live`] | the line in real time beside a running station |
//! | [`render`] | pictures of the parts as the camera sees them, with the truth as a class map |
//! | [`scene`] | from an exposure to what the renderer draws |
//! | [`virtual_run`] | one simulated run in virtual time, everything drawn from one seed |
//! | [`faults`] | what goes wrong in it |
//! | [`inspector`], [`ring`] | the models and the record of such a run |
//! | [`check`] | what must hold in it, whatever goes wrong |
//! | [`trace`], [`replay`] | its events in a file, and fed to a core again |
//! | [`rng`] | seeded numbers, the same everywhere |
//!
//! Ground truth lives here. Nothing outside `simulate/` and `cli/` may import
//! it (invariant 13), so that no verdict can lean on it by accident.

pub mod check;
pub mod count;
pub mod drive;
pub mod faults;
pub mod inspector;
pub mod line;
pub mod live;
pub mod part;
pub mod rejecter;
pub mod render;
pub mod replay;
pub mod ring;
pub mod rng;
pub mod scene;

pub mod trace;
pub mod virtual_run;
pub mod world;
