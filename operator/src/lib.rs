//! The operator of Kontiki, around a planner that does no I/O.
//!
//! A pass over a cluster is the same on Kubernetes and on one machine:
//!
//! 1. [`inventory`] gathers what the [`world`] shows, and asks every server how it is;
//! 2. `kontiki_plan` decides what to do next, purely;
//! 3. [`world`] performs the steps; a failed one stops only those that depend on it;
//! 4. [`report`] says what is, if it is not what was said before.
//!
//! What starts a pass says only "look": the [`controller`] on Kubernetes, and the loop of [`local`]
//! on one machine. What a pass remembers for the next one are ages; losing them costs time.
//!
//! Caveats: one replica, without leader election; pods are never rolled for a changed template.

#![warn(missing_docs)]

pub mod admin;
pub mod cli;
pub mod controller;
pub mod http;
pub mod inventory;
pub mod local;
pub mod metrics;
pub mod objects;
pub mod report;
pub mod signals;
pub mod telemetry;
pub mod world;
