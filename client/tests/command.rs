//! The `kontiki` command as a process, against a scripted server.

mod common;

use std::process::{Output, Stdio};

use common::{Say, Server, refusing};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tonic::Code;

async fn kontiki(endpoint: &str, arguments: &[&str], stdin: Option<&[u8]>) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kontiki"))
        .args(["--endpoints", endpoint, "--admin-endpoints", endpoint])
        .args(arguments)
        .env_remove("KONTIKI_OUTPUT")
        .env_remove("KONTIKI_TIMEOUT")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    if let Some(bytes) = stdin {
        input.write_all(bytes).await.unwrap();
    }
    drop(input);
    child.wait_with_output().await.unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn keys_and_values_in_every_output() {
    let endpoint = Server::new([], None).serve().await;
    let put = kontiki(&endpoint, &["put", "colour", "red"], None).await;
    assert_eq!(
        (put.status.code(), text(&put.stdout)),
        (Some(0), "revision 1\n")
    );
    let put = kontiki(&endpoint, &["put", "bytes", "-"], Some(b"\xff\x00\n")).await;
    assert_eq!(put.status.code(), Some(0), "{}", text(&put.stderr));

    let golden: [(&[&str], &str); 7] = [
        (&["get", "colour"], "red\n"),
        (&["get", "colour", "--raw"], "red"),
        (&["get", "bytes"], "\\xff\\x00\\n\n"),
        (
            &["get", "bytes", "-o", "json"],
            "{\n  \"create_revision\": 2,\n  \"key\": \"bytes\",\n  \"mod_revision\": 2,\n  \
             \"revision\": 2,\n  \"value_hex\": \"ff000a\"\n}\n",
        ),
        (
            &["range"],
            "KEY     VALUE       REVISION\nbytes   \\xff\\x00\\n  2\ncolour  red         1\n",
        ),
        (
            &["range", "--prefix", "co", "-o", "yaml"],
            "kvs:\n- create_revision: 1\n  key: colour\n  mod_revision: 1\n  value: red\n\
             revision: 2\n",
        ),
        (&["delete", "colour"], "deleted, revision 3\n"),
    ];
    for (arguments, wanted) in golden {
        let got = kontiki(&endpoint, arguments, None).await;
        assert_eq!(
            text(&got.stdout),
            wanted,
            "{arguments:?}: {}",
            text(&got.stderr)
        );
        assert_eq!(got.status.code(), Some(0));
    }
    let raw = kontiki(&endpoint, &["get", "bytes", "--raw"], None).await;
    assert_eq!(raw.stdout, b"\xff\x00\n");
}

#[tokio::test]
async fn a_write_that_names_another_revision_says_where_the_key_is() {
    let endpoint = Server::new([], None).serve().await;
    let done: [&[&str]; 3] = [
        &["put", "k", "one", "--if-absent"],
        &["put", "k", "two", "--if-revision", "1"],
        &["put", "other", "v"],
    ];
    for arguments in done {
        let got = kontiki(&endpoint, arguments, None).await;
        assert_eq!(got.status.code(), Some(0), "{}", text(&got.stderr));
    }
    let table: [(&[&str], &str); 4] = [
        (
            &["put", "k", "no", "--if-absent"],
            "mismatch: `k` is there, at revision 2; nothing was changed",
        ),
        (
            &["put", "k", "no", "--if-revision", "1"],
            "mismatch: `k` is at revision 2, not 1; nothing was changed",
        ),
        (
            &["delete", "k", "--if-revision", "3"],
            "mismatch: `k` is at revision 2, not 3; nothing was changed",
        ),
        (
            &["delete", "none", "--if-revision", "3"],
            "mismatch: there is no key `none`; nothing was changed",
        ),
    ];
    for (arguments, wanted) in table {
        let got = kontiki(&endpoint, arguments, None).await;
        let stderr = text(&got.stderr);
        assert_eq!(got.status.code(), Some(5), "{arguments:?}: {stderr}");
        assert!(stderr.contains(wanted), "{arguments:?}: {stderr}");
        assert_eq!(text(&got.stdout), "", "{arguments:?}");
    }
    let line = ["put", "k", "no", "--if-revision", "1", "-o", "json"];
    let got = kontiki(&endpoint, &line, None).await;
    assert_eq!(got.status.code(), Some(5));
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&got.stdout).unwrap(),
        serde_json::json!({
            "mismatch": true,
            "revision": 3,
            "current": {"key": "k", "value": "two", "create_revision": 2, "mod_revision": 2},
        })
    );
    let line = ["delete", "k", "--if-revision", "2"];
    let got = kontiki(&endpoint, &line, None).await;
    assert_eq!(text(&got.stdout), "deleted, revision 4\n");
}

#[tokio::test]
async fn a_listing_is_continued_by_its_token() {
    let endpoint = Server::new([], None).serve().await;
    for key in ["a", "b", "c"] {
        kontiki(&endpoint, &["put", key, "v"], None).await;
    }
    // The token of the scripted server: the next key, a zero, no end.
    let golden: [(&[&str], &str); 4] = [
        (
            &["range", "--limit", "2"],
            "KEY  VALUE  REVISION\na    v      1\nb    v      2\n\n\
             there is more: --continue 6300\n",
        ),
        (
            &["range", "--continue", "6300"],
            "KEY  VALUE  REVISION\nc    v      3\n",
        ),
        (
            &["range", "--limit", "2", "b", "d", "-o", "yaml"],
            "kvs:\n- create_revision: 2\n  key: b\n  mod_revision: 2\n  value: v\n\
             - create_revision: 3\n  key: c\n  mod_revision: 3\n  value: v\nrevision: 3\n",
        ),
        (
            &["range", "--limit", "1", "b", "d", "-o", "json"],
            "{\n  \"continuation\": \"630064\",\n  \"kvs\": [\n    {\n      \
             \"create_revision\": 2,\n      \"key\": \"b\",\n      \"mod_revision\": 2,\n      \
             \"value\": \"v\"\n    }\n  ],\n  \"revision\": 3\n}\n",
        ),
    ];
    for (arguments, wanted) in golden {
        let got = kontiki(&endpoint, arguments, None).await;
        let stderr = text(&got.stderr);
        assert_eq!(text(&got.stdout), wanted, "{arguments:?}: {stderr}");
        assert_eq!(got.status.code(), Some(0), "{arguments:?}: {stderr}");
    }
    for (token, status, wanted) in [
        ("63", 1, "give --continue the token as it was printed"),
        ("6", 2, "as --continue wants"),
    ] {
        let got = kontiki(&endpoint, &["range", "--continue", token], None).await;
        let stderr = text(&got.stderr);
        assert_eq!(got.status.code(), Some(status), "{token}: {stderr}");
        assert!(stderr.contains(wanted), "{token}: {stderr}");
    }
}

#[tokio::test]
async fn exit_statuses_are_as_documented_and_errors_say_what_to_do() {
    let fine = Server::new([], None).serve().await;
    let refused = refusing().await.to_string();
    let bare = Server::new([], Some(Say::Bare(Code::Internal)))
        .serve()
        .await;
    let machine = Server::new(
        [],
        Some(Say::Failed(Code::FailedPrecondition, "WRONG_MACHINE")),
    )
    .serve()
    .await;
    let table: [(&str, &[&str], i32, &str); 8] = [
        (
            &refused,
            &["put", "k", "v", "--timeout", "200ms"],
            1,
            "check that a server listens there",
        ),
        (&machine, &["put", "k", "v"], 1, "use `kontiki write`"),
        (
            &refused,
            &["status", "--timeout", "200ms"],
            1,
            "none of --admin-endpoints answered",
        ),
        (&fine, &["put", "", "v"], 2, "the key is empty"),
        ("nowhere", &["put", "k", "v"], 2, "`nowhere`"),
        (&fine, &["write", "0g", "--hex"], 2, "`0g`"),
        (&fine, &["get", "missing"], 3, "there is no key `missing`"),
        (&bare, &["put", "k", "v"], 4, "it may have been applied"),
    ];
    for (endpoint, arguments, status, wanted) in table {
        let got = kontiki(endpoint, arguments, None).await;
        let stderr = text(&got.stderr);
        assert_eq!(got.status.code(), Some(status), "{arguments:?}: {stderr}");
        assert!(stderr.contains(wanted), "{arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn load_writes_verifies_and_reports() {
    let server = Server::new([], None);
    let endpoint = server.serve().await;
    let line = [
        "load",
        "--writers",
        "2",
        "--count",
        "50",
        "--verify",
        "-q",
        "-o",
        "json",
    ];
    let got = kontiki(&endpoint, &line, None).await;
    assert_eq!(got.status.code(), Some(0), "{}", text(&got.stderr));
    let report: serde_json::Value = serde_json::from_slice(&got.stdout).unwrap();
    assert_eq!(report["acknowledged"], 50);
    assert_eq!(
        report["verified"],
        serde_json::json!({ "keys": 50, "missing": 0 })
    );
    assert_eq!(server.puts(), 50);
}

#[tokio::test]
async fn completions_are_printed() {
    let got = kontiki("127.0.0.1:1", &["completions", "bash"], None).await;
    assert_eq!(got.status.code(), Some(0));
    assert!(text(&got.stdout).contains("transfer-leadership"));
}

#[tokio::test]
async fn changes_are_printed_a_line_each() {
    use kontiki_client::proto::kv::{Event, KeyValue, WatchResponse};
    let event = |kind, at, value: &'static [u8]| Event {
        kind,
        kv: Some(KeyValue {
            key: "k\t1".into(),
            value: value.into(),
            create_revision: 3,
            mod_revision: at,
        }),
    };
    let says = |revision, events| WatchResponse {
        cluster_id: "c1".into(),
        revision,
        events,
    };
    let script = || {
        let says = vec![
            says(2, vec![]),
            says(4, vec![event(1, 3, b"v\xff"), event(2, 4, b"")]),
            says(
                6,
                vec![event(1, 5, b"w"), event(1, 6, b"more than asked for")],
            ),
        ];
        (says, None)
    };
    let server = Server::default();
    server.state.lock().unwrap().watches = [script(), script()].into();
    let endpoint = server.serve().await;
    let watch = ["watch", "k", "--from", "3", "--count", "3"];
    let got = kontiki(&endpoint, &watch, None).await;
    assert_eq!(got.status.code(), Some(0), "{}", text(&got.stderr));
    assert_eq!(
        text(&got.stdout),
        "3\tput\tk\\t1\tv\\xff\n4\tdelete\tk\\t1\n5\tput\tk\\t1\tw\n"
    );
    let json = [&watch[..], &["-o", "json"]].concat();
    let got = kontiki(&endpoint, &json, None).await;
    let lines: Vec<_> = text(&got.stdout).lines().collect();
    assert_eq!(
        lines,
        [
            r#"{"create_revision":3,"key":"k\t1","kind":"put","mod_revision":3,"value_hex":"76ff"}"#,
            r#"{"key":"k\t1","kind":"delete","mod_revision":4}"#,
            r#"{"create_revision":3,"key":"k\t1","kind":"put","mod_revision":5,"value":"w"}"#,
        ]
    );
    let asked = server.state.lock().unwrap().watched.clone();
    assert_eq!(
        (&asked[0].start[..], &asked[0].end[..]),
        (&b"k"[..], &b"l"[..])
    );
    assert_eq!(asked[0].start_revision, 3);

    let gone = common::failed(Code::OutOfRange, "COMPACTED", None);
    server.state.lock().unwrap().watches = [(vec![], Some(gone))].into();
    let got = kontiki(&endpoint, &watch, None).await;
    assert_eq!(got.status.code(), Some(1));
    assert!(
        text(&got.stderr).contains("kontiki range"),
        "{}",
        text(&got.stderr)
    );
}
