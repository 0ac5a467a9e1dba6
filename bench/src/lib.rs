//! Kontiki beside etcd on one machine, as ratios. Nothing here is part of the product, and no figure
//! of one run means anything beside a figure of another: machines drift by a factor of two.
//!
//! **A round** is six legs: echo, ours, rival, rival, ours, echo. Every leg warms up, then measures.
//! The order cancels a drift that is linear in time; the echo legs, an empty gRPC server driven by
//! the same generator, show whether the machine itself stayed the same, and how near a system is to
//! what gRPC costs at all. A round is *void* ([`rounds::void_reasons`]) if other processes used over
//! 10 % of a core, if the hypervisor stole over 1 %, or if the two echo legs differ by more than
//! 15 %; it is then repeated, at most 3 times.
//!
//! **A figure** ([`statistics::Figure`]) is the median of the rounds' ratios with their range. A
//! target is met if the quartile on its bad side meets it.
//!
//! **The generator** ([`generator`]) is one thread that speaks gRPC through `h2` directly, the same
//! code to every system: closed loops of 64 clients over 8 connections to the leader, one request in
//! flight each. A leg in which it used more than 0.9 of a core measured the generator, and says so.
//!
//! **CPU time** comes in nanoseconds from `/proc/PID/task/*/schedstat`, of the three servers together.
//!
//! # Caveats
//!
//! - A thread that ends within a leg takes its CPU time with it. Neither system ends threads under
//!   load.
//! - Both systems are up during all legs: one that rests counts as another process in the legs of the
//!   other, within the 10 %.
//! - What runs outside this PID namespace is seen only as user and system time of the whole machine.
//! - Killing the benchmark with SIGKILL leaves its folder on tmpfs behind, though no process.

pub mod comparisons;
pub mod echo;
pub mod failover;
pub mod generator;
pub mod grpc;
pub mod machine;
pub mod measure;
pub mod memory;
pub mod options;
pub mod process;
pub mod refill;
pub mod report;
pub mod rounds;
pub mod run;
pub mod statistics;
pub mod systems;
