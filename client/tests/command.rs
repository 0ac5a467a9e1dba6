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
