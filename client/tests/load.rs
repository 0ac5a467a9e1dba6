//! The load generator and its verification, against scripted servers.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Say, Server, options};
use kontiki_client::Error;
use kontiki_client::load::{Ended, Outcome, Plan, Verify, Writers, verify};
use tonic::Code;

fn plan() -> Plan {
    Plan {
        writers: 4,
        value_bytes: 32,
        client: options(),
        ..Plan::default()
    }
}

/// Only a broken generator takes so long.
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn unique_keys_are_written_sections_counted_and_everything_verified() {
    let server = Server::new([], None);
    let endpoint = server.serve().await;
    let writers = Writers::start([&endpoint], plan()).unwrap();
    assert!(writers.wait_for_acknowledged(40, DEADLINE).await);
    writers.mark("second");
    assert!(writers.wait_for_acknowledged(40, DEADLINE).await);
    let report = writers.stop().await;
    assert_eq!(writers.wait().await, Ended::Stopped);

    let written = writers.acknowledged();
    let keys: BTreeSet<_> = written.iter().map(|written| written.key.clone()).collect();
    assert_eq!(keys.len(), written.len(), "a key was written twice");
    assert_eq!(server.state.lock().unwrap().store.len(), written.len());
    let labels: Vec<_> = report
        .sections
        .iter()
        .map(|section| section.label.as_str())
        .collect();
    assert_eq!(labels, ["start", "second"]);
    assert!(
        report
            .sections
            .iter()
            .all(|section| section.acknowledged >= 40),
        "{report:?}"
    );
    let sum: u64 = report
        .sections
        .iter()
        .map(|section| section.acknowledged)
        .sum();
    assert_eq!(sum, report.total.acknowledged);
    assert_eq!(sum as usize, written.len());
    assert!(report.total.longest_gap > Duration::ZERO && report.total.rate > 0.0);
    assert!(report.total.latency.p50_us > 0);

    let found = verify([&endpoint], &written, Verify::default())
        .await
        .unwrap();
    assert!(found.is_complete(), "{found:?}");
    assert_eq!(found.keys, written.len());
    assert!(server.state.lock().unwrap().stale_reads > 0);
}

#[tokio::test]
async fn a_lost_key_is_found_missing_on_the_server_that_lost_it() {
    let server = Server::new([], None);
    let endpoint = server.serve().await;
    let writers = Writers::start(
        [&endpoint],
        Plan {
            operations_max: 20,
            ..plan()
        },
    )
    .unwrap();
    assert_eq!(writers.wait().await, Ended::Operations);
    let written = writers.acknowledged();
    assert_eq!(written.len(), 20);

    let follower = Server::new([], None);
    {
        let leader = server.state.lock().unwrap();
        let mut state = follower.state.lock().unwrap();
        state.store = leader.store.clone();
        state.revision = leader.revision;
        state.loses = vec![written[7].key.to_vec()];
        state.store.get_mut(&written[9].key[..]).unwrap().0 = b"changed".to_vec();
    }
    let at_follower = follower.serve().await;
    let how = Verify {
        servers: vec![endpoint.clone(), at_follower.clone()],
        ..Verify::default()
    };
    let found = verify([&endpoint], &written, how).await.unwrap();
    assert!(
        found
            .missing
            .iter()
            .all(|m| m.server.as_ref().unwrap().as_str() == at_follower)
    );
    let lost: Vec<_> = found
        .missing
        .iter()
        .map(|m| (&m.expected, m.found.is_some()))
        .collect();
    assert_eq!(lost, [(&written[9], true), (&written[7], false)]);
}

#[tokio::test]
async fn a_server_that_is_behind_is_waited_for_and_then_named() {
    let server = Server::new([], None);
    let endpoint = server.serve().await;
    let writers = Writers::start(
        [&endpoint],
        Plan {
            operations_max: 5,
            ..plan()
        },
    )
    .unwrap();
    writers.wait().await;
    let behind = Server::new([], None).serve().await;
    let how = Verify {
        servers: vec![behind.clone()],
        catch_up_timeout: Duration::from_secs(1),
        ..Verify::default()
    };
    let error = verify([&endpoint], &writers.acknowledged(), how)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("has applied revision 0 and not yet 5"),
        "{error}"
    );
    assert!(error.to_string().contains(&behind));
}

#[tokio::test]
async fn failed_and_unknown_writes_are_told_apart() {
    let script = [
        Say::Bare(Code::Internal),
        Say::Failed(Code::InvalidArgument, "REFUSED_BY_MACHINE"),
        Say::Failed(Code::InvalidArgument, "REFUSED_BY_MACHINE"),
    ];
    let server = Server::new(script, None);
    let plan = Plan {
        writers: 1,
        operations_max: 10,
        ..plan()
    };
    let writers = Writers::start([server.serve().await], plan).unwrap();
    assert_eq!(writers.wait().await, Ended::Operations);
    let total = writers.report().total;
    assert_eq!((total.acknowledged, total.failed, total.unknown), (7, 2, 1));
    let operations = writers.operations();
    let outcomes: Vec<_> = operations
        .iter()
        .map(|operation| operation.outcome)
        .collect();
    assert_eq!(
        outcomes[..3],
        [Outcome::Unknown, Outcome::Failed, Outcome::Failed]
    );
    assert!(
        operations
            .iter()
            .all(|operation| operation.start <= operation.end)
    );
    assert_eq!(server.puts(), 10, "none was sent twice");
}

#[tokio::test]
async fn a_rate_is_kept_and_a_duration_ends_the_run() {
    let server = Server::new([], None);
    let plan = Plan {
        rate: Some(100.0),
        duration: Some(Duration::from_millis(500)),
        ..plan()
    };
    let writers = Writers::start([server.serve().await], plan).unwrap();
    assert_eq!(writers.wait().await, Ended::Duration);
    let total = writers.report().total;
    // 100/s for half a second is 50; a machine that is busy may have written fewer, never more.
    assert!((1..=50).contains(&total.acknowledged), "{total:?}");
}

#[tokio::test]
async fn a_bad_plan_or_endpoint_starts_nothing() {
    let error = Writers::start(
        ["127.0.0.1:7400"],
        Plan {
            writers: 0,
            ..plan()
        },
    )
    .unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }));
    let error = Writers::start(["nowhere"], plan()).unwrap_err();
    assert!(error.to_string().contains("`nowhere`"));
}
