//! Kontiki told as programs. Every line that a story shows was read from servers in that step, and
//! every step checks what its title claims.
//!
//! - [`exraft`]: the story of ExRaft's README, with servers inside the program (`exraft_story`).
//! - [`guestbook`]: a state machine of one's own.

pub mod calls;
pub mod exraft;
pub mod guestbook;
pub mod narrator;
pub mod process;
pub mod sight;
