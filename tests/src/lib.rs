//! What no single crate of Kontiki can prove.
//!
//! # The simulated world
//!
//! Many real drivers ([`kontiki_node::driver::Driver`], the engine inside), on one thread, in virtual
//! time, from one seed: the same seed is the same run. Everything around them is a model:
//!
//! * [`network`]: delay, loss, duplication, reordering, cuts in one or both directions;
//! * [`world`]: places (pods with an address), in each at most one process at a time; a process that
//!   dies takes its memory with it, and what starts in its place is a new incarnation. Connections
//!   that break and are dialled anew; clocks that drift; processes that stand still;
//! * clients that write unique values, half of them in sessions, and read; an operator that bootstraps, activates, replaces what
//!   is lost, scales, hands leadership over and triggers elections;
//! * [`profile`]: which faults, how often;
//! * [`invariants`]: what must hold after every turn.
//!
//! [`simulation::run`] is a run: faults for a while, then everything heals, and then the cluster must
//! make progress and agree within a bounded time. Along the way [`tally`] counts what happened: a
//! fault that never happened proves nothing.
//!
//! # Caveats
//!
//! * Memory mode only, so a restart is always a new incarnation. The simulated [`disk`] is under a log
//!   of the tests' own until there is storage.
//! * The default profiles never kill the last quorum of incarnations, because that loses data by
//!   contract. `total-loss` does, and checks that the rest freezes and is quarantined.
//! * Memory changes by itself only in runs that compact no log: a snapshot of a server whose memory
//!   changed hands the change on, if it is taken before a checkpoint convicts that server.
//! * The transport (gRPC) is a model; `tests/process` has the real one.

pub mod clock;
pub mod disk;
pub mod invariants;
pub mod linearizability;
pub mod network;
pub mod node;
pub mod profile;
pub mod register;
pub mod rng;
pub mod simulation;
pub mod tally;
pub mod trace;
pub mod world;
