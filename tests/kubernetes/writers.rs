//! Four writers of unique keys, and the check that every acknowledged write is where it was
//! acknowledged to be.

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use kontiki_client::load::{self, Outcome, Plan, Report, Section, Verify};
use kontiki_client::{Client, Consistency, Range};
use std::collections::BTreeSet;

use crate::raft::{PATIENCE, Raft};

/// Writers at the same time.
pub const WRITERS: usize = 4;

/// Writes a second of each: so that the log of a long scenario fits in the memory of a pod.
const PACE: f64 = 250.0;

/// Acknowledgements that show that the writers are served again.
const SERVED: u64 = 100;

/// Writers under way.
pub struct Writers {
    raft: Raft,
    run: load::Writers,
}

impl Writers {
    /// Starts them, and waits until they are served.
    pub async fn start(raft: &Raft) -> Result<Self> {
        let plan = Plan {
            writers: WRITERS,
            rate: Some(PACE * WRITERS as f64),
            value_bytes: 32,
            ..Plan::default()
        };
        let run = load::Writers::start(raft.client_endpoints(), plan)?;
        let writers = Writers {
            raft: raft.clone(),
            run,
        };
        writers.served().await?;
        Ok(writers)
    }

    /// Begins a section of the report.
    pub fn mark(&self, label: &str) {
        self.run.mark(label);
    }

    /// Waits until writes are acknowledged.
    pub async fn served(&self) -> Result<()> {
        ensure!(
            self.run.wait_for_acknowledged(SERVED, PATIENCE).await,
            "{SERVED} writes are not acknowledged within {} s: {:?}",
            PATIENCE.as_secs(),
            self.run.report().sections.last()
        );
        Ok(())
    }

    /// Stops them after the writes in flight; what they saw.
    pub async fn stop(&self) -> Report {
        let report = self.run.stop().await;
        let Section {
            acknowledged,
            failed,
            unknown,
            ref last_error,
            ..
        } = report.total;
        println!(
            "  {acknowledged} writes acknowledged, {failed} failed, {unknown} unknown{}{}",
            if last_error.is_some() {
                "; the last error: "
            } else {
                ""
            },
            last_error.as_deref().unwrap_or_default()
        );
        report
    }

    /// Acknowledged writes a second of the slowest writer in a section.
    pub fn slowest_rate(&self, section: &Section) -> f64 {
        let (from, to) = (section.began, section.began + section.lasted);
        let mut counts = [0_u32; WRITERS];
        for operation in self.run.operations() {
            let acknowledged = matches!(operation.outcome, Outcome::Acknowledged { .. });
            if acknowledged && (from..to).contains(&operation.end) {
                counts[operation.writer] += 1;
            }
        }
        let slowest = counts.into_iter().min().unwrap_or(0);
        f64::from(slowest) / section.lasted.as_secs_f64()
    }

    /// Reads every acknowledged key linearizably, and on each of `servers` servers once it has caught
    /// up: all are there as acknowledged, and nothing is that was said to have failed.
    pub async fn verify(&self, servers: usize) -> Result<()> {
        let endpoints = self.raft.caught_up().await?;
        ensure!(
            endpoints.len() == servers,
            "{} servers to read, not {servers}",
            endpoints.len()
        );
        let acknowledged = self.run.acknowledged();
        let options = Verify {
            servers: endpoints,
            catch_up_timeout: PATIENCE,
            ..Verify::default()
        };
        let found = load::verify(self.raft.client_endpoints(), &acknowledged, options).await?;
        ensure!(
            found.is_complete(),
            "{} of {} acknowledged keys are not as acknowledged; first: {:?}",
            found.missing.len(),
            found.keys,
            found.missing.first()
        );
        self.nothing_else().await?;
        println!(
            "  {} keys read linearizably and on each of {servers} servers",
            found.keys
        );
        Ok(())
    }

    /// Every key that is there was acknowledged, or its outcome was not known.
    async fn nothing_else(&self) -> Result<()> {
        let possible: BTreeSet<Vec<u8>> = self
            .run
            .operations()
            .iter()
            .filter(|operation| operation.outcome != Outcome::Failed)
            .map(|operation| self.run.key(operation).into_bytes())
            .collect();
        let client = Client::new(self.raft.client_endpoints())?;
        let mut pages = client.range(Range::all(), Consistency::Linearizable);
        while let Some(page) = pages.try_next().await.context("read all keys")? {
            for pair in page.kvs {
                ensure!(
                    possible.contains(pair.key.as_ref() as &[u8]),
                    "{} is there, though its write failed or never was",
                    String::from_utf8_lossy(&pair.key)
                );
            }
        }
        Ok(())
    }
}
