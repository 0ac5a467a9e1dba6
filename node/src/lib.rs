//! The node daemon.

pub mod driver;
pub mod machine;
