//! The leaves (`log`, `progress`, `membership`) against slow versions that are easy to read.

mod failover;
mod log;
mod membership;
mod progress;
