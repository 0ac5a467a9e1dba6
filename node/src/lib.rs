//! The node daemon of Kontiki, and Kontiki embedded in a program.
//!
//! # Life of a write
//!
//! 1. A connection of the client port ([`listen`]) hands the request to [`api`], which checks its
//!    bounds and copies the command: nothing that is kept holds on to a receive buffer.
//! 2. [`handle`] puts it, with the way back for its answer, into one bounded channel. A full channel
//!    is an answer as well: `RESOURCE_EXHAUSTED`, never proposed.
//! 3. The loop of [`runner`] takes everything that has come in since the last turn, from clients and
//!    from peers, and gives it to the [`driver`] in one go. That is all the batching there is.
//! 4. The driver proposes; the algorithm (`kontiki_raft`) appends and names what is to be sent.
//! 5. [`peer`] queues one batch for each follower on the connection that this server dialled.
//! 6. Their acknowledgements come back on the same connection, and are inputs of a later turn: a
//!    quorum of them commits the entry.
//! 7. The driver applies it to the [`machine`] and returns the machine's reply as an output.
//! 8. The loop completes the oneshot (or the stream) that waits, and `api` encodes the response.
//!
//! All of it happens on the *node thread*, a runtime of a single thread, so that a write in memory
//! mode never crosses one. Metrics and probes are served from the thread that called [`run`].
//!
//! # Outcomes
//!
//! A request either *failed*, then nothing of it was and will be applied, or its outcome is
//! *unknown*. The two are never confused: [`handle::Failure`] says which, [`api`] makes it a status,
//! and [`Error`] tells a program that embeds a server.

#![deny(missing_docs)]

pub mod api;
pub mod config;
pub mod driver;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod handle;
pub mod host;
pub mod listen;
pub mod machine;
pub mod metrics;
pub mod peer;
pub mod runner;

mod address_book;
mod bootstrap;
mod clock;
mod daemon;
mod effects;
mod ending;
mod entry;
mod http;
mod introduce;
mod refusals;
mod server;
mod shutdown;
mod telemetry;
mod watching;

pub use address_book::{AddressBook, ServerRef};
pub use config::Config;
pub use daemon::{RunError, main, main_shipped, run};
pub use kontiki_raft::{ClusterId, Configuration, Index, LogId, Role, ServerId, Term};
pub use server::{Error, Result, Server, ServerOptions};
