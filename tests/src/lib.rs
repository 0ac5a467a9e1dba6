//! What no single crate of Kontiki can prove.
//!
//! # The simulated world
//!
//! Many real drivers ([`kontiki_node::driver::Driver`], the engine inside), on one thread, in virtual
//! time, from one seed: the same seed is the same run. Everything around them is a model:
//!
//! * [`network`]: delay, loss, duplication, reordering; links that are cut, or slow, in one direction or
//!   both, for a while or again and again;
//! * [`world`]: places (pods with an address), in each at most one process at a time; a process that
//!   dies takes its memory with it, and what starts in its place is a new incarnation. Connections
//!   that break and are dialled anew; clocks that drift, now at this rate and now at that; processes
//!   that stand still, some for many election timeouts;
//! * machines on the node thread and on threads of their own, which take their time, are slow and hang;
//!   queues in front of turns that are full; limits of memory that are reached;
//! * clusters that are bootstrapped by the operator or by their servers, with crashes in between, and that
//!   are lost and followed by empty ones in the same places, while clients go on with their sessions;
//! * clients that write unique values, half of them in sessions, and read; an operator that bootstraps,
//!   activates, replaces what is lost, scales, hands leadership over and triggers elections, and now and
//!   then replaces who lives, twice, or by what it saw long ago;
//! * [`profile`]: which faults ([`fault`]), how often;
//! * [`invariants`]: what must hold after every turn.
//!
//! [`simulation::run`] is a run: faults for a while, then everything heals, and then the cluster must
//! make progress and agree within a bounded time. Along the way [`tally`] counts what happened, and which
//! named [`states`] servers were in: a fault that never happened proves nothing.
//!
//! # From a failure to a script
//!
//! 1. What is done to a run from outside is a list, drawn from its seed alone ([`script`]): each fault and
//!    each operation of a client has its time, and randomness of its own.
//! 2. Everything else draws for itself as well (a link, a place, a process, the operator), and by the moment
//!    ([`rng::Noise`]), so that what is left out of the list reshuffles nothing else.
//! 3. So a failure can be made small ([`shrink`]): things are left out as long as the same invariant is
//!    violated, and once that goes no further, with other delays. What remains, often a few lines, is
//!    printed and written to `target/sim`, and `sim --script FILE` runs it again, bit for bit.
//!
//! # Caveats
//!
//! * Memory mode only, so a restart is always a new incarnation. The simulated [`disk`] is under a log
//!   of the tests' own until there is storage.
//! * The default profiles never kill the last quorum of incarnations, because that loses data by
//!   contract. `total-loss` does, and checks that the rest freezes and is quarantined.
//! * A machine's thread is a queue whose jobs are done at a moment of the simulation: a job has its effect
//!   at the end of the time that it takes, and no two threads run at once. Races of memory are for the
//!   tests of `kontiki-node`.
//! * Clocks keep to their contract but in the profile `clocks`: there they stand still with their server,
//!   jump and race, and what depends on a clock by contract (reads under a lease, reads of bounded age, when
//!   a leader steps down) is judged only where no such clock is felt.
//! * When an empty cluster starts, all that was seen of the one before is forgotten: its acknowledged writes
//!   are lost by contract, and nothing of it may be seen in the next.
//! * Memory changes by itself only in runs that compact no log: a snapshot of a server whose memory
//!   changed hands the change on, if it is taken before a checkpoint convicts that server.
//! * The transport (gRPC) is a model; `tests/process` has the real one.

pub mod batch;
pub mod clock;
pub mod disk;
pub mod fault;
pub mod invariants;
pub mod linearizability;
pub mod network;
pub mod node;
pub mod profile;
pub mod register;
pub mod rng;
pub mod sabotage;
pub mod script;
pub mod shrink;
pub mod simulation;
pub mod states;
pub mod tally;
pub mod trace;
pub mod world;
