//! The load generator: writers of unique keys that remember what was acknowledged, measure rate,
//! latency and the longest gap for each section of a run, and a check that nothing acknowledged is
//! missing.
//!
//! ```no_run
//! # async fn example() -> Result<(), kontiki_client::Error> {
//! use std::time::Duration;
//! use kontiki_client::load::{Plan, Verify, Writers, verify};
//!
//! let endpoints = ["127.0.0.1:7400", "127.0.0.1:7410", "127.0.0.1:7420"];
//! let writers = Writers::start(endpoints, Plan { writers: 4, ..Plan::default() })?;
//! writers.mark("leader killed");
//! // ... disturb the cluster ...
//! writers.wait_for_acknowledged(1000, Duration::from_secs(30)).await;
//! let report = writers.stop().await;
//! for section in &report.sections {
//!     println!("{}: longest gap {:?}", section.label, section.longest_gap);
//! }
//! let found = verify(endpoints, &writers.acknowledged(), Verify::default()).await?;
//! assert!(found.is_complete(), "{found:?}");
//! # Ok(())
//! # }
//! ```

mod board;
mod plan;
mod report;
mod verify;
mod writers;

pub use plan::Plan;
pub use report::{Latency, Report, Section};
pub use verify::{Missing, Verification, Verify, verify};
pub use writers::{Acknowledged, Ended, Operation, Outcome, Writers};
