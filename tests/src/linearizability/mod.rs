//! Whether what clients of real processes saw is linearizable: a key-value store of registers with
//! put, get, delete and compare-and-set.
//!
//! [`history`] is what is recorded, by clients that run side by side; [`checker`] searches for an order
//! of a key's operations that explains it; [`window`] is the shortest stretch that none explains, for
//! people; [`revisions`] judges all keys together, by the revisions that the store names; [`staleness`]
//! judges reads that may be old; [`complaints`] is what all of them say.
//!
//! # Outcomes
//!
//! * A *reply* bounds when the operation took effect: between its call and its reply.
//! * *Unknown*: it took effect at any moment after its call, or never; also long after its client gave
//!   up. Never is one of the possibilities, so an unknown write is neither present nor absent.
//! * *Failed*: it did not take effect and never will, so it is not in the history. If its value is
//!   seen all the same, nothing in the history explains it.
//!
//! Every write of a history stores a value of its own. Without that a register could hide a lost
//! write behind an equal one.

pub mod checker;
pub mod complaints;
pub mod history;
pub mod revisions;
pub mod staleness;
pub mod window;

#[cfg(test)]
mod tests;
