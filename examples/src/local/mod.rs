//! Part two: a manifest, an operator and processes on this machine.
//!
//! The operator is the one that runs on Kubernetes, with the same planner; processes on loopback
//! take the place of pods. What it does is read from every server over gRPC.

mod story;
mod world;

pub use story::{Timing, step, tell};
pub use world::{LocalWorld, Node, Programs, tail};
