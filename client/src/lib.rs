//! The Rust client of Kontiki: it finds the leader, follows redirects, writes in a session so that
//! what is sent again is applied once, and tells *failed* from *unknown*.
//!
//! - [`Client`] speaks to the client port (7400): `Kv` and `Data`.
//! - [`Admin`] speaks to the peer port (7401): status, membership, leadership.
//! - [`load`] is the load generator, which remembers what was acknowledged and can verify it.
//!
//! ```
//! # use kontiki_node::{Server, ServerOptions, machine::kv::Kv};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let server = Server::start(Kv::default(), ServerOptions::default())?;
//! # let endpoint = server.me().client_address.clone();
//! use kontiki_client::{Client, Consistency, Error};
//!
//! // Client ports of one server or of several; any of them leads to the leader.
//! let client = Client::new([endpoint])?;
//! match client.put("colour", "red").await {
//!     Ok(put) => println!("written at revision {}", put.revision),
//!     Err(Error::Failed { reason, .. }) => println!("was not applied: {reason}"),
//!     Err(Error::Unknown { message, .. }) => println!("may have been applied: {message}"),
//!     Err(Error::Invalid { message }) => println!("was not sent: {message}"),
//! }
//! let got = client.get("colour", Consistency::Linearizable).await?;
//! assert!(got.found);
//! # Ok(())
//! # }
//! ```
//!
//! # Watching
//!
//! [`Client::watch`] tells what changes in a range of keys from a revision on, and goes on at another
//! server when its own is lost. If it lags behind what servers keep, it ends with `COMPACTED`: read the
//! keys anew, and watch from the revision after that of the answer.
//!
//! # What is sent again
//!
//! Everything, until [`Options::timeout`] has passed. Writes go in a session (`docs/sessions.md`), which
//! the first of them opens: one whose outcome is not known is sent again in the same place, and the
//! cluster applies it once. It is *unknown* in the end only if no server said what became of it in
//! time, if its session expired meanwhile, or if its reply was too large to be kept.
//!
//! After a total loss another cluster may stand behind the same endpoints. It refuses sessions of the former
//! one (`WRONG_CLUSTER`), and the client opens a new session by itself and says so
//! ([`Client::cluster_changes`]). A write that no server may have applied goes into the new session, unless
//! it has a condition: revisions of the former cluster mean nothing in the present one, so it *fails* with
//! `WRONG_CLUSTER`. A write that may have been applied in the former cluster is *unknown*, for good.
//!
//! With [`Options::sessions`] off, a write is sent again only after an error that carries Kontiki's own
//! detail with `outcome: FAILED` and a reason that another server or another moment may cure, and
//! after a dial that failed: never after a status without that detail, a connection that broke, or a
//! deadline that passed after sending. Then only the caller knows whether writing twice is harmless.
//! [`WriteStream`] sends nothing again by itself.

#![deny(missing_docs)]

mod address;
mod admin;
mod backoff;
mod client;
mod clusters;
mod connections;
mod error;
pub mod load;
mod range;
mod read_mode;
mod revision;
mod router;
mod session;
mod watch;
mod write_stream;

pub use kontiki_proto as proto;
pub use kontiki_proto::v1::Consistency;

pub use address::Address;
pub use admin::{Admin, Member, Members};
pub use client::{Client, Pages};
pub use clusters::{ClusterChange, ClusterChanges};
pub use connections::ConnectionOptions;
pub use error::{Error, local_reason};
pub use range::{Range, prefix_end};
pub use read_mode::ReadMode;
pub use revision::Revision;
pub use router::Options;
pub use session::Place;
pub use watch::Watch;
pub use write_stream::{WriteStream, Written};
