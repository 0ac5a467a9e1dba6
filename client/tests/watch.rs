//! A watch goes on wherever it can, and says so when it cannot.

mod common;

use std::collections::HashMap;

use common::{Server, failed, impatient, options, refusing};
use kontiki_client::proto::kv::{Event, KeyValue, WatchResponse};
use kontiki_client::proto::{ERROR_DOMAIN, metadata, reason};
use kontiki_client::{Client, Error, Range};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

const CLUSTER: &str = "00000000000000c1";

/// A response that is complete through a revision, with a change at each of these.
fn says(revision: u64, events: &[u64]) -> WatchResponse {
    let event = |at: &u64| Event {
        kind: 1,
        kv: Some(KeyValue {
            mod_revision: *at,
            ..KeyValue::default()
        }),
    };
    WatchResponse {
        cluster_id: CLUSTER.into(),
        revision,
        events: events.iter().map(event).collect(),
    }
}

/// A server whose watches are scripted.
fn server(watches: impl IntoIterator<Item = (Vec<WatchResponse>, Option<Status>)>) -> Server {
    let server = Server::default();
    server.state.lock().unwrap().watches = watches.into_iter().collect();
    server
}

/// (start_revision, cluster_id) of every watch that a server was asked for.
fn asked(server: &Server) -> Vec<(u64, String)> {
    let state = server.state.lock().unwrap();
    let each = state.watched.iter();
    each.map(|one| (one.start_revision, one.cluster_id.clone()))
        .collect()
}

/// As [`failed`], and complete through a revision.
fn ended(code: Code, reason: &str, complete: u64) -> Status {
    let meta = HashMap::from([
        (metadata::OUTCOME.to_owned(), "FAILED".to_owned()),
        (metadata::COMPLETE_REVISION.to_owned(), complete.to_string()),
    ]);
    let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, meta);
    Status::with_error_details(code, format!("scripted {reason}"), details)
}

#[tokio::test]
async fn it_goes_on_after_the_last_revision_that_it_was_complete_through() {
    let compacted = failed(Code::OutOfRange, reason::COMPACTED, None);
    let first = server([
        // It stops, and says that it has come further than it told.
        (
            vec![says(4, &[]), says(6, &[5, 6])],
            Some(ended(Code::Unavailable, reason::STOPPING, 8)),
        ),
        (vec![], Some(compacted)),
        (vec![says(12, &[11, 12])], None),
    ]);
    let second = server([
        (
            vec![],
            Some(ended(Code::Unavailable, reason::QUARANTINED, 8)),
        ),
        // The connection breaks; the response before is what counts.
        (vec![says(10, &[9])], Some(Status::unknown("broken"))),
    ]);
    let refusing = refusing().await.to_string();
    let endpoints = [first.serve().await, refusing, second.serve().await];
    let client = Client::with_options(endpoints, options()).unwrap();
    let mut watch = client.watch(Range::all(), 5).unwrap();
    assert_eq!((watch.complete(), watch.cluster_id()), (Some(4), ""));
    // The first response says what was known: it is not told.
    for (revision, events) in [(6, vec![5, 6]), (10, vec![9]), (12, vec![11, 12])] {
        let response = watch.next().await.unwrap();
        assert_eq!(response, says(revision, &events));
        assert_eq!(watch.complete(), Some(revision));
    }
    let known = |revision| (revision, CLUSTER.to_owned());
    assert_eq!(asked(&first), [(5, String::new()), known(9), known(11)]);
    assert_eq!(asked(&second), [known(9), known(9)]);
}

#[tokio::test]
async fn from_now_on_begins_where_the_first_server_says() {
    let server = server([
        (vec![], Some(Status::unknown("broken"))),
        (vec![says(7, &[])], Some(Status::unknown("broken"))),
        (vec![says(7, &[]), says(9, &[8])], None),
    ]);
    let client = Client::with_options([server.serve().await], options()).unwrap();
    let mut watch = client.watch(Range::prefix("k"), 0).unwrap();
    assert_eq!(watch.next().await.unwrap(), says(7, &[]));
    assert_eq!(watch.next().await.unwrap(), says(9, &[8]));
    let here = CLUSTER.to_owned();
    assert_eq!(
        asked(&server),
        [(0, String::new()), (0, String::new()), (8, here)]
    );
}

#[tokio::test]
async fn it_ends_once_no_server_keeps_what_is_next() {
    let gone = || {
        (
            vec![],
            Some(failed(Code::OutOfRange, reason::COMPACTED, None)),
        )
    };
    let (first, second) = (server([gone(), gone()]), server([gone(), gone()]));
    let endpoints = [first.serve().await, second.serve().await];
    let client = Client::with_options(endpoints, options()).unwrap();
    let error = client.watch(Range::all(), 5).unwrap().next().await;
    assert_eq!(error.unwrap_err().reason(), Some(reason::COMPACTED));
    assert_eq!((asked(&first).len(), asked(&second).len()), (1, 1));
}

#[tokio::test]
async fn what_another_server_would_refuse_as_well_ends_it_at_once() {
    for (code, reason) in [
        (Code::FailedPrecondition, reason::WRONG_CLUSTER),
        (Code::FailedPrecondition, reason::WRONG_MACHINE),
        (Code::InvalidArgument, reason::INVALID),
    ] {
        let server = server([(vec![], Some(failed(code, reason, None)))]);
        let client = Client::with_options([server.serve().await], options()).unwrap();
        let error = client.watch(Range::all(), 1).unwrap().next().await;
        assert_eq!(error.unwrap_err().reason(), Some(reason));
        assert_eq!(asked(&server).len(), 1);
    }
    let client = Client::new(["127.0.0.1:1"]).unwrap();
    let limited = Range {
        limit: 3,
        ..Range::all()
    };
    let error = client.watch(limited, 1).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
}

#[tokio::test]
async fn without_a_server_it_gives_up_after_the_timeout_and_can_be_asked_again() {
    let address = refusing().await.to_string();
    let client = Client::with_options([address], impatient()).unwrap();
    let mut watch = client.watch(Range::all(), 3).unwrap();
    for _ in 0..2 {
        let error = watch.next().await.unwrap_err();
        assert_eq!(error.reason(), Some("UNREACHABLE"), "{error}");
        assert_eq!(watch.complete(), Some(2));
    }
}
