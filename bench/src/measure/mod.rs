//! What the kernel says of processes and of the machine, read from `/proc`.

mod cpu;
mod memory;
mod others;

pub use cpu::{Cost, cost_of, cost_of_this_thread};
pub use memory::{Memory, memory_of, peak_of};
pub use others::{Machine, Snapshot};
