//! Kontiki told as programs. Every line that a story shows was read from servers in that step, and
//! every step checks what its title claims.
//!
//! - [`exraft`]: the story of ExRaft's README, with servers inside the program (`exraft_story`).
//! - [`guestbook`]: a state machine of one's own.
//! - [`local`]: a cluster of processes that the operator keeps as a manifest says.
//!
//! The program `demo` tells both parts.

pub mod calls;
pub mod demo;
pub mod exraft;
pub mod guestbook;
pub mod local;
pub mod narrator;
pub mod process;
pub mod sight;
