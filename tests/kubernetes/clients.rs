//! `kv` for everyone: grpcurl, and the clients of `examples/clients` in Python and Go. They follow
//! redirects, send again what failed, and never confuse that with what is unknown: through a proxy
//! that loses answers, and while the leader's pod is deleted.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use futures::future::try_join_all;
use kontiki_client::proto::kv::KeyValue;
use kontiki_client::proto::v1::StatusResponse;
use kontiki_client::{Client, Consistency, Range};
use rustix::process::Signal;
use serde_json::Value;

use crate::World;
use crate::cluster::{Cluster, run as run_program};
use crate::example::{Example, Outcome, Writing};
use crate::lossy::{Fate, Proxy};
use crate::processes;
use crate::raft::{PATIENCE, Raft, address_of};
use crate::wait::until;

/// Acknowledgements of each client before and after the leader's pod is deleted.
const SERVED: usize = 50;

/// Servers of the cluster.
const SERVERS: u32 = 3;

/// Where clients find the cluster.
struct Endpoints {
    all: Vec<String>,
    leader: String,
    follower: String,
}

pub async fn run(world: &World) -> Result<()> {
    let raft = world.namespace.raft("many");
    let manifest = raft.manifest(SERVERS).to_string();
    world.cluster.apply(&raft.namespace, &manifest).await?;
    raft.settled(SERVERS).await?;

    let endpoints = Endpoints::of(&raft).await?;
    grpcurl(&endpoints).await?;
    println!("  grpcurl: done");
    let examples = Example::all()?;
    for example in &examples {
        calls(example, &endpoints).await?;
        refused_and_lost(example, &endpoints.all).await?;
        println!("  {}: calls, refusals, lost answers: done", example.name);
    }
    leader_deleted(&raft, &examples, &endpoints.all).await
}

impl Endpoints {
    async fn of(raft: &Raft) -> Result<Self> {
        let (leads, _) = raft.leader().await?;
        let (mut leader, mut followers) = (None, Vec::new());
        for pod in raft.pods().await? {
            let address = format!("{}:7400", address_of(&pod).context("a pod's address")?);
            match pod.metadata.name.as_deref() == Some(&leads) {
                true => leader = Some(address),
                false => followers.push(address),
            }
        }
        let all = raft.client_endpoints();
        Ok(Endpoints {
            all: all[..SERVERS as usize].to_vec(),
            leader: leader.context("the leader's pod")?,
            follower: followers.pop().context("a follower's pod")?,
        })
    }
}

/// Runs grpcurl; whether it succeeded, and all that it printed.
async fn ask(at: &str, arguments: &[&str], input: Option<&str>) -> Result<(bool, String)> {
    let mut line = vec!["-plaintext"];
    if input.is_some() {
        line.extend(["-d", "@"]);
    }
    line.push(at);
    line.extend(arguments);
    let output = run_program("grpcurl", &line, input).await?;
    let text = [output.stdout, output.stderr].concat();
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

/// A call of `Kv` that succeeds.
async fn call(at: &str, method: &str, request: &str) -> Result<Value> {
    let method = format!("kontiki.kv.v1.Kv/{method}");
    let (succeeded, text) = ask(at, &[&method], Some(request)).await?;
    ensure!(succeeded, "grpcurl {method} {request}: {text}");
    serde_json::from_str(&text).with_context(|| text)
}

/// A call of `Kv` that fails, and says so with all of `parts`.
async fn refused(at: &str, method: &str, request: &str, parts: &[&str]) -> Result<()> {
    let method = format!("kontiki.kv.v1.Kv/{method}");
    let (succeeded, text) = ask(at, &[&method], Some(request)).await?;
    ensure!(!succeeded, "grpcurl {method} {request} succeeded: {text}");
    for part in parts {
        ensure!(text.contains(part), "no {part} in: {text}");
    }
    Ok(())
}

/// What a person finds who has nothing but grpcurl. Keys and values are base64: `a` is YQ==.
async fn grpcurl(endpoints: &Endpoints) -> Result<()> {
    let leader = &endpoints.leader;
    for (arguments, wanted) in [
        (&["list"][..], "kontiki.kv.v1.Kv\n"),
        (&["describe", "kontiki.kv.v1.Kv"], "rpc Range"),
        (
            &["describe", "kontiki.kv.v1.PutRequest"],
            "optional uint64 if_mod_revision",
        ),
    ] {
        let (succeeded, text) = ask(leader, arguments, None).await?;
        ensure!(succeeded && text.contains(wanted), "{arguments:?}: {text}");
    }

    let put = call(leader, "Put", r#"{"key": "YQ==", "value": "MQ=="}"#).await?;
    let got = call(leader, "Get", r#"{"key": "YQ=="}"#).await?;
    ensure!(
        got["kv"]["value"] == "MQ==" && got["kv"]["modRevision"] == put["revision"],
        "put {put}, got {got}"
    );
    let parts = [
        "Code: FailedPrecondition",
        r#""reason": "NOT_LEADER""#,
        r#""outcome": "FAILED""#,
        r#""leader_address": ""#,
    ];
    let request = r#"{"key": "YQ==", "value": "Mg=="}"#;
    refused(&endpoints.follower, "Put", request, &parts).await?;

    let request = r#"{"key": "YQ==", "value": "Mg==", "if_mod_revision": 0}"#;
    let mismatch = call(leader, "Put", request).await?;
    ensure!(
        mismatch["mismatch"] == true && mismatch["current"] == got["kv"],
        "{mismatch}"
    );
    let request = r#"{"key": "Yg==", "value": "Mg==", "if_mod_revision": 0}"#;
    let created = call(leader, "Put", request).await?;
    ensure!(created["mismatch"].is_null(), "{created}");

    let page = call(leader, "Range", r#"{"limit": 1}"#).await?;
    let token = page["continuation"].as_str().context("no continuation")?;
    let request = format!(r#"{{"continuation": "{token}"}}"#);
    let rest = call(leader, "Range", &request).await?;
    ensure!(
        page["kvs"][0]["key"] == "YQ=="
            && rest["kvs"][0]["key"] == "Yg=="
            && rest["continuation"].is_null(),
        "{page} and {rest}"
    );
    let request = r#"{"continuation": "YWJjZGVm"}"#;
    let parts = ["Code: InvalidArgument", "BAD_CONTINUATION", "unchanged"];
    refused(leader, "Range", request, &parts).await?;

    // The two keys go, so that what follows begins with an empty store.
    for key in ["YQ==", "Yg=="] {
        let request = format!(r#"{{"key": "{key}"}}"#);
        let deleted = call(leader, "Delete", &request).await?;
        ensure!(deleted["deleted"] == true, "{deleted}");
    }
    Ok(())
}

/// The key, linearizably.
async fn read(client: &Client, key: &str) -> Result<Option<KeyValue>> {
    let key = key.to_owned().into_bytes();
    Ok(client.get(key, Consistency::Linearizable).await?.kv)
}

/// Every command, and its exit status; a write sent to a follower first.
async fn calls(example: &Example, endpoints: &Endpoints) -> Result<()> {
    let all = &endpoints.all;
    let client = Client::new(all)?;
    let [redirected, key, missing] =
        ["redirected", "key", "missing"].map(|what| format!("{}-{what}", example.name));

    // Only the redirect leads from there to the leader.
    let follower = [endpoints.follower.clone()];
    let put = example
        .run(&follower, &["put", &redirected, "value"])
        .await?;
    let written = read(&client, &redirected).await?;
    let written = written.with_context(|| format!("not written: {put:?}"))?;
    ensure!(
        put.status == Some(0) && put.stdout == format!("{}\n", written.mod_revision),
        "{put:?}, and {written:?} is there"
    );
    let shown = format!("{} value\n", written.mod_revision);
    example
        .expect(&follower, &["get", &redirected], 0, &shown)
        .await?;
    example.expect(all, &["get", &missing], 3, "").await?;

    let created = example.run(all, &["cas", &key, "one", "0"]).await?;
    let one = read(&client, &key).await?.context("not created")?;
    ensure!(
        created.stdout == format!("{}\n", one.mod_revision),
        "{created:?}, and {one:?} is there"
    );
    let mismatch = format!("mismatch {} one\n", one.mod_revision);
    example
        .expect(all, &["cas", &key, "two", "0"], 5, &mismatch)
        .await?;
    let arguments = ["cas", &missing, "two", "1"];
    example.expect(all, &arguments, 5, "mismatch 0\n").await?;
    let revision = one.mod_revision.to_string();
    let replaced = example.run(all, &["cas", &key, "two", &revision]).await?;
    ensure!(replaced.status == Some(0), "{replaced:?}");
    let arguments = ["delete", &key];
    example.expect(all, &arguments, 0, "deleted\n").await?;
    example
        .expect(all, &arguments, 0, "was not there\n")
        .await?;

    // Seven keys in pages of two.
    let mut listed = String::new();
    for number in 0..7 {
        let key = format!("{}-listed-{number}", example.name);
        client.put(key.clone(), "v").await?;
        listed.push_str(&format!("{key} v\n"));
    }
    let bounds = ["-listed-", "-listed-~"].map(|end| format!("{}{end}", example.name));
    let arguments = ["range", &bounds[0], &bounds[1], "2"];
    example.expect(all, &arguments, 0, &listed).await?;

    // What could not be sent has failed, and is not unknown. Nobody listens on that port.
    let nowhere = ["127.0.0.1:9".to_owned()];
    let failed = example.run(&nowhere, &["put", &key, "value"]).await?;
    ensure!(
        failed.status == Some(1) && failed.stderr.contains("cannot connect"),
        "{failed:?}"
    );
    Ok(())
}

/// Calls are refused, requests and answers lost: each client sends again what it may, finds out what
/// can be found out, and says so of what cannot.
async fn refused_and_lost(example: &Example, all: &[String]) -> Result<()> {
    use Fate::{LoseAnswer, LoseAnswerAndOverwrite, LoseRequest, Pass, Refuse, RefuseForGood};
    let client = Client::new(all)?;
    let proxy = Proxy::start(all)?;
    let through = [proxy.endpoint.clone()];
    let name = |what: &str| format!("{}-through-{what}", example.name);
    let (put, cas) = ("put", "cas");
    // What becomes of it; then the exit status, copies sent, writes done (0: no such key).
    for (command, script, status, copies, writes) in [
        (put, vec![Refuse, Refuse], 0, 3, 1),
        (put, vec![RefuseForGood], 1, 1, 0),
        (put, vec![LoseAnswer], 4, 1, 1),
        (put, vec![LoseRequest], 4, 1, 0),
        (cas, vec![Pass], 0, 1, 1),
        (cas, vec![Refuse], 0, 2, 1),
        (cas, vec![LoseAnswer], 0, 2, 1),
        (cas, vec![LoseRequest], 0, 2, 1),
        (cas, vec![LoseRequest, LoseAnswer, LoseAnswer], 0, 4, 1),
        (cas, vec![LoseAnswer, Refuse], 0, 3, 1),
        (cas, vec![LoseAnswer, RefuseForGood], 4, 2, 1),
        (cas, vec![LoseAnswerAndOverwrite], 4, 2, 2),
    ] {
        let context = format!("{} {command} through {script:?}", example.name);
        let key = name(&format!("{command}-{script:?}"));
        let before = revision(&client).await?;
        proxy.take_puts();
        proxy.script(&script);
        let mut arguments = vec![command, &key, "mine"];
        arguments.extend((command == cas).then_some("0"));
        let ended = example.run(&through, &arguments).await?;
        ensure!(proxy.script_is_done(), "{context}: not all of it happened");
        let sent = proxy.take_puts();
        let done = revision(&client).await? - before;
        ensure!(
            (ended.status, sent, done) == (Some(status), copies, writes),
            "{context}: {sent} copies sent, {done} writes done, {ended:?}"
        );
        let there = read(&client, &key).await?;
        if status == 0 {
            let there = there.context("not there")?;
            ensure!(
                &there.value[..] == b"mine" && ended.stdout == format!("{}\n", there.mod_revision),
                "{context}: {there:?} is there, {ended:?}"
            );
        } else {
            ensure!(there.is_some() == (writes > 0), "{context}: {there:?}");
        }
    }

    // A read changes nothing, and is sent again.
    let key = name("read");
    let written = client.put(key.clone(), "value").await?.revision;
    proxy.script(&[Refuse, LoseRequest, LoseAnswer]);
    let shown = format!("{written} value\n");
    example.expect(&through, &["get", &key], 0, &shown).await
}

/// Revision of the store.
async fn revision(client: &Client) -> Result<u64> {
    let get = client.get("any", Consistency::Linearizable);
    Ok(get.await?.revision)
}

/// Both clients write, and both count on the same key, while the leader's pod is deleted, and while
/// the next leader's process is killed in the middle of its work.
async fn leader_deleted(raft: &Raft, examples: &[Example], all: &[String]) -> Result<()> {
    const COUNTER: &str = "counter";
    let (mut counting, mut filling) = (Vec::new(), BTreeMap::new());
    for example in examples {
        counting.push(example.write(all, "count", COUNTER)?);
        let prefix = format!("{}-filled-", example.name);
        let writing = example.write(all, "fill", &prefix)?;
        filling.insert(prefix, writing);
    }
    served(counting.iter_mut().chain(filling.values_mut())).await?;
    let (leader, before) = raft.leader().await?;
    raft.replace_pod(&leader, &[]).await?;
    led_anew(raft, &leader, &before).await?;
    served(counting.iter_mut().chain(filling.values_mut())).await?;
    match Cluster::is_ours() {
        true => {
            let (leader, before) = raft.leader().await?;
            let process = processes::of_pod(&raft.pod(&leader).await?)?;
            processes::signal(process, Signal::KILL)?;
            led_anew(raft, &leader, &before).await?;
            served(counting.iter_mut().chain(filling.values_mut())).await?;
        }
        false => println!("  no process is killed: KUBECONFIG names a cluster not of ours"),
    }

    let client = Client::new(raft.client_endpoints())?;
    let (mut added, mut maybe) = (0, 0);
    for writing in counting {
        let name = writing.name.clone();
        let outcomes = writing.stop().await?;
        let of = |wanted| {
            outcomes
                .iter()
                .filter(|outcome| **outcome == wanted)
                .count()
        };
        added += of(Outcome::Acknowledged);
        maybe += of(Outcome::Unknown);
        report(&name, &outcomes)?;
    }
    let counter = read(&client, COUNTER).await?.context("no counter")?;
    let counter = String::from_utf8_lossy(&counter.value).into_owned();
    let number: usize = counter.split(' ').next().unwrap_or_default().parse()?;
    ensure!(
        (added..=added + maybe).contains(&number),
        "the counter is at {number}: {added} additions are acknowledged, {maybe} unknown"
    );
    for (prefix, writing) in filling {
        let name = writing.name.clone();
        let outcomes = writing.stop().await?;
        report(&name, &outcomes)?;
        compare(&client, &prefix, &outcomes)
            .await
            .with_context(|| name)?;
    }
    println!("  counter at {number}: {added} additions acknowledged, {maybe} unknown");
    Ok(())
}

/// Waits until another server leads, and the cluster is whole again.
async fn led_anew(raft: &Raft, leader: &str, before: &StatusResponse) -> Result<()> {
    until("another server leads", PATIENCE, async || {
        let (_, after) = raft.leader_but(Some(leader)).await?;
        Ok((after.term > before.term).then_some(()))
    })
    .await?;
    raft.settled(SERVERS).await
}

async fn served(writing: impl Iterator<Item = &mut Writing>) -> Result<()> {
    let served = writing.map(|writing| writing.served(SERVED));
    try_join_all(served).await.map(drop)
}

/// Prints how the writes of a client ended. None may have failed: there was a leader again long
/// before the client gives up.
fn report(name: &str, outcomes: &[Outcome]) -> Result<()> {
    let of = |wanted| {
        outcomes
            .iter()
            .filter(|outcome| **outcome == wanted)
            .count()
    };
    let (acknowledged, unknown) = (of(Outcome::Acknowledged), of(Outcome::Unknown));
    println!("  {name}: {acknowledged} writes acknowledged, {unknown} unknown");
    let failed = of(Outcome::Failed);
    ensure!(failed == 0, "{name}: {failed} writes were not sent again");
    Ok(())
}

/// Every acknowledged key is there with its value, and none that failed.
async fn compare(client: &Client, prefix: &str, outcomes: &[Outcome]) -> Result<()> {
    let mut pages = client.range(Range::prefix(prefix.to_owned()), Consistency::Linearizable);
    let mut there = BTreeSet::new();
    while let Some(page) = pages.try_next().await? {
        for pair in page.kvs {
            let key = String::from_utf8_lossy(&pair.key).into_owned();
            let number = key.strip_prefix(prefix).context("another prefix")?;
            ensure!(
                number.as_bytes() == &pair.value[..],
                "{key} has the value {:?}",
                pair.value
            );
            there.insert(number.parse::<usize>()?);
        }
    }
    for (number, outcome) in outcomes.iter().enumerate() {
        let is_there = there.remove(&number);
        ensure!(
            *outcome == Outcome::Unknown || is_there == (*outcome == Outcome::Acknowledged),
            "{prefix}{number} is {outcome:?}, and there: {is_there}"
        );
    }
    ensure!(there.is_empty(), "never written, and there: {there:?}");
    Ok(())
}
