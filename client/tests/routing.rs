//! Where requests go, which are sent again, and which never.

mod common;

use std::time::Duration;

use common::{Say, Server, impatient, options, refusing};
use futures::TryStreamExt;
use kontiki_client::{Client, Consistency, Error, Options, Range};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tonic::Code;

fn client(endpoints: &[String], options: Options) -> Client {
    Client::with_options(endpoints, options).unwrap()
}

#[tokio::test]
async fn a_chain_of_redirects_leads_to_the_leader_which_is_remembered() {
    let leader = Server::new([], None);
    let at_leader = leader.serve().await;
    let second = Server::new([], Some(Say::Redirect(at_leader.clone())));
    let at_second = second.serve().await;
    let first = Server::new([], Some(Say::Redirect(at_second)));
    let client = client(&[first.serve().await], options());
    assert_eq!(client.put("k", "v").await.unwrap().revision, 1);
    assert_eq!(client.put("k", "w").await.unwrap().revision, 2);
    assert_eq!((first.puts(), second.puts(), leader.puts()), (1, 1, 2));
    assert_eq!(client.leader().unwrap().as_str(), at_leader);
}

#[tokio::test]
async fn servers_that_name_each_other_cost_pauses_and_end_with_the_deadline() {
    let (one, other) = (
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    );
    let (at_one, at_other) = (
        one.local_addr().unwrap().to_string(),
        other.local_addr().unwrap().to_string(),
    );
    let first = Server::new([], Some(Say::Redirect(at_other)));
    let second = Server::new([], Some(Say::Redirect(at_one)));
    let endpoint = first.serve_on(one);
    second.serve_on(other);
    let error = client(&[endpoint], impatient())
        .put("k", "v")
        .await
        .unwrap_err();
    // The deadline falls into a pause, or into an attempt, and then nobody knows.
    let is_unknown = matches!(error, kontiki_client::Error::Unknown { .. });
    assert!(
        is_unknown || error.reason() == Some("NOT_LEADER"),
        "{error}"
    );
    let sent = first.puts() + second.puts();
    // Pauses double from 4 ms to 200 ms, each after at most 5 attempts: 9 of them fill 400 ms.
    assert!((2..=60).contains(&sent), "{sent} attempts");
}

#[tokio::test]
async fn what_was_never_proposed_is_sent_again() {
    let script = [
        Say::Failed(Code::Unavailable, "NO_LEADER"),
        Say::Failed(Code::Unavailable, "QUORUM_LOST"),
        Say::Failed(Code::Unavailable, "TRANSFERRING"),
        Say::Failed(Code::Unavailable, "STOPPING"),
        Say::Failed(Code::ResourceExhausted, "QUEUE_FULL"),
        Say::Failed(Code::FailedPrecondition, "NOT_ACTIVATED"),
        Say::Failed(Code::FailedPrecondition, "NOT_A_MEMBER"),
    ];
    let sent = script.len() + 1;
    let server = Server::new(script, None);
    let client = client(&[server.serve().await], options());
    client.put("k", "v").await.unwrap();
    assert_eq!(server.puts(), sent);
}

#[tokio::test]
async fn a_full_queue_is_met_with_pauses_until_the_deadline() {
    let server = Server::new([], Some(Say::Failed(Code::ResourceExhausted, "QUEUE_FULL")));
    let error = client(&[server.serve().await], impatient())
        .put("k", "v")
        .await
        .unwrap_err();
    assert!(
        error.is_unknown() || error.reason() == Some("QUEUE_FULL"),
        "{error}"
    );
    assert!(
        (2..=20).contains(&server.puts()),
        "{} attempts in 400 ms",
        server.puts()
    );
}

#[tokio::test]
async fn a_refusal_for_good_is_not_sent_again() {
    let server = Server::new(
        [],
        Some(Say::Failed(Code::InvalidArgument, "REFUSED_BY_MACHINE")),
    );
    let error = client(&[server.serve().await], options())
        .put("k", "v")
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Some("REFUSED_BY_MACHINE"));
    assert_eq!(server.puts(), 1);
}

#[tokio::test]
async fn a_write_whose_status_is_not_ours_is_unknown_and_not_sent_again() {
    for code in [
        Code::ResourceExhausted,
        Code::Unavailable,
        Code::Internal,
        Code::Unknown,
    ] {
        let server = Server::new([Say::Bare(code)], None);
        let error = client(&[server.serve().await], options())
            .put("k", "v")
            .await
            .unwrap_err();
        assert!(error.is_unknown(), "{code:?}: {error}");
        assert_eq!(server.puts(), 1, "{code:?}");
    }
}

#[tokio::test]
async fn a_write_without_an_answer_is_unknown_at_the_deadline() {
    let server = Server::new([], Some(Say::Silence));
    let error = client(&[server.serve().await], impatient())
        .put("k", "v")
        .await
        .unwrap_err();
    assert!(error.is_unknown(), "{error}");
    assert_eq!(server.puts(), 1);
}

#[tokio::test]
async fn a_read_is_sent_again_whatever_happened() {
    let script = [
        Say::Bare(Code::Internal),
        Say::Bare(Code::Unavailable),
        Say::Silence,
    ];
    let server = Server::new(script, None);
    let mut options = options();
    options.attempt_timeout = Duration::from_secs(1);
    let client = client(&[server.serve().await], options);
    assert!(
        !client
            .get("k", Consistency::Linearizable)
            .await
            .unwrap()
            .found
    );
    assert_eq!(server.state.lock().unwrap().gets, 4);
}

#[tokio::test]
async fn a_refused_dial_is_tried_elsewhere() {
    let server = Server::new([], None);
    let endpoints = [refusing().await.to_string(), server.serve().await];
    let client = client(&endpoints, options());
    client.put("k", "v").await.unwrap();
    assert_eq!(server.puts(), 1);
}

#[tokio::test]
async fn a_refused_dial_is_a_failure_and_not_unknown() {
    let endpoint = refusing().await.to_string();
    let error = client(std::slice::from_ref(&endpoint), impatient())
        .put("k", "v")
        .await
        .unwrap_err();
    let Error::Failed {
        reason,
        attempts,
        message,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(reason, "UNREACHABLE");
    assert!(*attempts > 1, "{attempts}");
    assert!(message.contains(&endpoint), "{message}");
}

#[tokio::test]
async fn a_server_that_comes_back_is_dialled_anew() {
    // The first connection is closed before any request is sent on it; the port then serves.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let server = Server::new([], None);
    let client = client(&[endpoint], options());
    let (first, ()) = tokio::join!(client.get("k", Consistency::Linearizable), async {
        let (connection, _) = listener.accept().await.unwrap();
        drop(connection);
        server.serve_on(listener);
    });
    assert!(!first.unwrap().found);
    client.put("k", "v").await.unwrap();
    assert_eq!(server.puts(), 1);
}

/// Forwards connections to a server until it is told to cut them.
async fn cut_after_sending(server: Server) -> (String, tokio::sync::oneshot::Sender<()>) {
    let upstream = server.serve().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let (cut, told) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut upstream = tokio::net::TcpStream::connect(upstream).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {}
            _ = told => {}
        }
        // Nobody accepts any more: what dials again is refused.
        drop(listener);
    });
    (endpoint, cut)
}

#[tokio::test]
async fn a_connection_that_breaks_after_sending_leaves_the_write_unknown() {
    let server = Server::new([], Some(Say::Silence));
    let (endpoint, cut) = cut_after_sending(server.clone()).await;
    let other = Server::new([], None);
    let endpoints = [endpoint, other.serve().await];
    let client = client(&endpoints, options());
    let write = tokio::spawn({
        let client = client.clone();
        async move { client.put("k", "v").await }
    });
    let arrived = async {
        while server.puts() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), arrived)
        .await
        .expect("the put arrives");
    cut.send(()).unwrap();
    let error = write.await.unwrap().unwrap_err();
    assert!(error.is_unknown(), "{error}");
    assert_eq!(other.puts(), 0, "it was sent again");
    // What comes after it finds another server.
    client.put("l", "v").await.unwrap();
    assert_eq!((server.puts(), other.puts()), (1, 1));
}

#[tokio::test]
async fn a_silent_peer_is_noticed_before_the_deadline() {
    // Accepts, takes everything, says nothing: not even the settings of HTTP/2.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut sink = [0; 4096];
        while connection.read(&mut sink).await.unwrap_or(0) > 0 {}
        let _ = connection.shutdown().await;
    });
    let mut options = options();
    options.connection.keepalive_interval = Duration::from_millis(100);
    options.connection.keepalive_timeout = Duration::from_millis(100);
    let began = std::time::Instant::now();
    let error = client(&[endpoint], options)
        .put("k", "v")
        .await
        .unwrap_err();
    assert!(error.is_unknown(), "{error}");
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "noticed by the deadline only"
    );
}

#[tokio::test]
async fn ranges_go_page_by_page_up_to_their_limit() {
    let server = Server::new([], None);
    let client = client(&[server.serve().await], options());
    for n in 0..8 {
        client.put(format!("k{n}"), "v").await.unwrap();
    }
    let all: Vec<_> = client
        .range(Range::prefix("k"), Consistency::Linearizable)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(
        all.iter().map(|page| page.kvs.len()).collect::<Vec<_>>(),
        [3, 3, 2]
    );
    let range = Range {
        limit: 4,
        ..Range::all()
    };
    let some: Vec<_> = client
        .range(range, Consistency::Stale)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(some.iter().map(|page| page.kvs.len()).sum::<usize>(), 4);
    let rest = Range::rest(some.last().unwrap().continuation.clone());
    let rest: Vec<_> = client
        .range(rest, Consistency::Linearizable)
        .try_collect()
        .await
        .unwrap();
    let keys = rest.iter().flat_map(|page| &page.kvs).map(|kv| &kv.key[..]);
    assert_eq!(keys.collect::<Vec<_>>(), [b"k4", b"k5", b"k6", b"k7"]);
    let at = client.endpoints()[0].clone();
    let pinned: Vec<_> = client
        .range_at(&at, Range::all(), Consistency::Stale)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(pinned.len(), 3);
}

#[tokio::test]
async fn a_mismatch_is_an_answer_and_sent_once() {
    let server = Server::new([], None);
    let client = client(&[server.serve().await], options());
    let created = client.put_if("k", "one", 0).await.unwrap();
    assert!(!created.mismatch);
    let seen = client.put_if("k", "two", 7).await.unwrap();
    assert!(seen.mismatch);
    assert_eq!(&seen.current.unwrap().value[..], b"one");
    assert_eq!(server.puts(), 2);
    let seen = client.delete_if("k", 7).await.unwrap();
    assert!(seen.mismatch && !seen.deleted);
    let deleted = client.delete_if("k", created.revision).await.unwrap();
    assert!(!deleted.mismatch && deleted.deleted);
}

#[tokio::test]
async fn bad_input_is_named_and_nothing_is_sent() {
    let server = Server::new([], None);
    let client = client(&[server.serve().await], options());
    let empty = client.put("", "v").await.unwrap_err();
    assert!(empty.to_string().contains("1 to 4096 bytes"), "{empty}");
    let long = client.put(vec![b'k'; 4097], "v").await.unwrap_err();
    assert!(long.to_string().contains("4097 bytes"), "{long}");
    assert!(matches!(
        client.write("").await.unwrap_err(),
        Error::Invalid { .. }
    ));
    assert_eq!(server.puts(), 0);
    assert!(matches!(
        Client::new(Vec::<String>::new()).unwrap_err(),
        Error::Invalid { .. }
    ));
}
