//! The kernels and their matrix of tests by themselves: they need nothing but the standard library, so `rustc` alone
//! makes them into a test for a box within a minute (`cross/arm/test.sh kernels`).
#![allow(dead_code)] // who calls them is not here

#[path = "../../src/kernels/mod.rs"]
pub mod kernels;
