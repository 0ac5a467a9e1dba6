//! The load generator, with progress.

use std::time::Duration;

use serde_json::json;
use tokio::time::MissedTickBehavior;

use kontiki_client::Options;
use kontiki_client::load::{Plan, Report, Verification, Verify, Writers, verify};

use super::arguments::Load;
use super::bytes::escape;
use super::failure::Failure;
use super::shown::Shown;

/// Missing keys that are named; the rest is counted.
const MISSING_SHOWN_MAX: usize = 10;

/// Runs to the end, or to an interrupt, and reports.
pub async fn run(endpoints: &[String], options: Options, load: Load) -> Result<Shown, Failure> {
    let defaults = Plan::default();
    let plan = Plan {
        writers: load.writers,
        rate: load.rate,
        key_prefix: load.key_prefix.unwrap_or(defaults.key_prefix),
        value_bytes: load.value_bytes,
        duration: Some(load.duration),
        operations_max: load.count.unwrap_or(defaults.operations_max),
        client: Options {
            sessions: load.sessions,
            ..options.clone()
        },
    };
    let writers = Writers::start(endpoints, plan)?;
    progress(&writers, load.quiet).await;
    let report = writers.stop().await;
    let verification = if load.verify {
        let how = Verify {
            client: options,
            ..Verify::default()
        };
        Some(verify(endpoints, &writers.acknowledged(), how).await?)
    } else {
        None
    };
    Ok(show(&report, verification.as_ref()))
}

/// Says every second how it goes, until the run ends or is interrupted.
async fn progress(writers: &Writers, quiet: bool) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    every.tick().await;
    let mut before = 0;
    loop {
        tokio::select! {
            _ = writers.wait() => return,
            _ = tokio::signal::ctrl_c() => return,
            _ = every.tick(), if !quiet => {
                let total = writers.report().total;
                eprintln!(
                    "{:5.0} s  {} acknowledged (+{}), {} failed, {} unknown, longest gap {:.0} ms",
                    total.lasted.as_secs_f64(),
                    total.acknowledged,
                    total.acknowledged - before,
                    total.failed,
                    total.unknown,
                    total.longest_gap.as_secs_f64() * 1e3,
                );
                before = total.acknowledged;
            }
        }
    }
}

fn show(report: &Report, verification: Option<&Verification>) -> Shown {
    let total = &report.total;
    let latency = &total.latency;
    let mut text = format!(
        "acknowledged  {} in {:.1} s, {:.0}/s\nfailed        {}\nunknown       {}\n\
         longest gap   {:.1} ms\n\
         latency       p50 {} us, p90 {} us, p99 {} us, p99.9 {} us, max {} us",
        total.acknowledged,
        total.lasted.as_secs_f64(),
        total.rate,
        total.failed,
        total.unknown,
        total.longest_gap.as_secs_f64() * 1e3,
        latency.p50_us,
        latency.p90_us,
        latency.p99_us,
        latency.p999_us,
        latency.max_us,
    );
    if let Some(error) = &total.last_error {
        text.push_str(&format!("\nlast error    {error}"));
    }
    let mut value = serde_json::to_value(total).expect("a report is a JSON value");
    if let Some(found) = verification {
        text.push_str(&format!(
            "\nverified      {} keys, linearizably and on {} server(s): {} missing",
            found.keys,
            found.servers.len(),
            found.missing.len()
        ));
        for missing in found.missing.iter().take(MISSING_SHOWN_MAX) {
            let server = missing
                .server
                .as_ref()
                .map_or("linearizably", |at| at.as_str());
            text.push_str(&format!("\n  {} {server}", escape(&missing.expected.key)));
        }
        value["verified"] = json!({ "keys": found.keys, "missing": found.missing.len() });
    }
    let mut shown = Shown::new(value, text);
    shown.verdict = verdict(report, verification);
    shown
}

fn verdict(report: &Report, verification: Option<&Verification>) -> Option<Failure> {
    if verification.is_some_and(|found| !found.is_complete()) {
        return Some(Failure::Local {
            message: "acknowledged writes are missing".to_owned(),
        });
    }
    if report.total.acknowledged == 0 {
        let why = report
            .total
            .last_error
            .as_deref()
            .unwrap_or("it ended before the first answer");
        return Some(Failure::Local {
            message: format!("no write was acknowledged: {why}"),
        });
    }
    None
}
