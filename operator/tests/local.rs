//! The local world with real nodes: what a person does with a manifest, and what goes wrong.

mod support;

use std::time::Duration;

use rustix::process::Signal;
use support::{Cluster, Operator, data};

#[test]
fn a_cluster_follows_its_manifest_up_and_down_and_ctrl_c_ends_all_of_it() {
    let cluster = Cluster::new(3);
    let mut operator = Operator::start(&cluster);
    let status = cluster.wait_ready(3);
    assert_eq!(cluster.processes().len(), 3);
    data::put(&cluster, "before", "1");

    cluster.edit("replicas: 3", "replicas: 5");
    let grown = cluster.wait_ready(5);
    assert_eq!(cluster.processes().len(), 5);
    assert_eq!(grown.cluster_id, status.cluster_id);
    data::put(&cluster, "between", "2");

    cluster.edit("replicas: 5", "replicas: 3");
    cluster.wait_ready(3);
    cluster.wait_for("two processes have ended", || {
        cluster.processes().len() == 3
    });
    assert_eq!(data::get(&cluster, "before").as_deref(), Some("1"));
    assert_eq!(data::get(&cluster, "between").as_deref(), Some("2"));

    operator.interrupt();
    assert!(operator.wait().success(), "{}", operator.output());
    assert!(cluster.processes().is_empty(), "{:?}", cluster.processes());
}

#[test]
fn killed_nodes_are_replaced_and_nothing_is_lost() {
    let cluster = Cluster::new(3);
    let _operator = Operator::start(&cluster);
    let first = cluster.wait_ready(3);
    data::put(&cluster, "kept", "yes");

    let leader = first.leader.unwrap().server_id;
    let follower = first
        .members
        .iter()
        .find(|m| m.server_id != leader)
        .unwrap();
    for victim in [follower.server_id.clone(), leader] {
        let process = cluster.process_of(&victim);
        process.signal(Signal::KILL).unwrap();
        cluster.wait_for("the process is gone", || !process.is_alive());
        cluster.wait_for("another server has its place", || {
            let members = cluster.status().members;
            members.len() == 3 && members.iter().all(|member| member.server_id != victim)
        });
        cluster.wait_ready(3);
        assert_eq!(data::get(&cluster, "kept").as_deref(), Some("yes"));
    }
}

#[test]
fn an_operator_killed_in_the_middle_of_a_scale_up_finishes_it_when_it_is_back() {
    let cluster = Cluster::new(3);
    let mut operator = Operator::start(&cluster);
    let before = cluster.wait_ready(3);
    cluster.edit("replicas: 3", "replicas: 5");
    cluster.wait_for("a process more is there", || cluster.processes().len() > 3);
    operator.kill();
    let voters = cluster.status().quorum.map_or(0, |quorum| quorum.voters);
    assert_eq!(
        voters, 3,
        "the operator was to die before the scale-up had ended"
    );
    let survivors = cluster.processes();
    assert!(survivors.len() > 3, "nodes died with their operator");

    let mut operator = Operator::start(&cluster);
    let after = cluster.wait_ready(5);
    assert_eq!(after.cluster_id, before.cluster_id);
    assert!(
        operator.output().contains("adopted"),
        "{}",
        operator.output()
    );
    let now = cluster.processes();
    assert!(
        survivors.iter().all(|process| now.contains(process)),
        "{survivors:?} {now:?}"
    );

    operator.interrupt();
    assert!(operator.wait().success(), "{}", operator.output());
    assert!(
        cluster.processes().is_empty(),
        "adopted processes were left"
    );
}

#[test]
fn a_manifest_that_is_wrong_is_named_and_the_last_good_one_stays_in_force() {
    let cluster = Cluster::new(1);
    let operator = Operator::start(&cluster);
    cluster.wait_ready(1);
    for (good, bad, said) in [
        (
            "replicas: 1",
            "replicas: 12",
            "demo.yaml:6: spec.replicas: replicas must be between",
        ),
        (
            "mode: Memory",
            "mod: Memory",
            "demo.yaml:10: spec.storage.mod: unknown field",
        ),
        (
            "kind: Kv",
            "kind: Counter",
            "demo.yaml:8: spec.stateMachine.kind: ",
        ),
    ] {
        cluster.edit(good, bad);
        cluster.wait_for(said, || operator.output().contains(said));
        cluster.edit(bad, good);
    }
    cluster.edit("replicas: 1", "replicas: 2");
    cluster.wait_ready(2);
}

#[test]
fn a_first_manifest_that_is_wrong_ends_the_program_with_its_own_status() {
    let cluster = Cluster::new(3);
    cluster.edit("replicas: 3", "replicas: three");
    let mut operator = Operator::start(&cluster);
    assert_eq!(operator.wait().code(), Some(78));
    assert!(
        operator.output().contains("demo.yaml:6: "),
        "{}",
        operator.output()
    );
    assert!(
        operator.output().contains("spec.replicas"),
        "{}",
        operator.output()
    );
}

#[test]
fn a_machine_of_ones_own_runs_from_the_program_that_is_named_and_from_no_other() {
    let cluster = Cluster::new(3);
    cluster.edit("kind: Kv", "kind: Custom");
    let mut operator = Operator::start(&cluster);
    let wanted = "demo.yaml:5: spec.image: image must be set if stateMachine.kind is Custom";
    assert_eq!(operator.wait().code(), Some(78));
    assert!(operator.output().contains(wanted), "{}", operator.output());

    cluster.edit("  replicas: 3", "  image: bank:1\n  replicas: 3");
    let mut operator = Operator::bare(&cluster, &[]);
    let wanted = "demo.yaml:9: spec.stateMachine.kind: Custom needs a program here";
    assert_eq!(operator.wait().code(), Some(78));
    assert!(operator.output().contains(wanted), "{}", operator.output());

    // Any machine will do: this one calls itself kv.
    let _operator = Operator::start(&cluster);
    let status = cluster.wait_ready(3);
    let machine = status.machine.expect("a machine");
    assert_eq!(machine.name, "kv");
    data::put(&cluster, "key", "1");
}

#[test]
fn one_operator_keeps_a_manifest_and_any_program_may_ask_for_its_status() {
    let cluster = Cluster::new(1);
    let _operator = Operator::start(&cluster);
    cluster.wait_ready(1);
    let mut second = Operator::start(&cluster);
    assert_eq!(second.wait().code(), Some(1));
    assert!(
        second.output().contains("another operator"),
        "{}",
        second.output()
    );
    let mut asked = Operator::with(&cluster, &["--status"]);
    assert!(asked.wait().success());
    let output = asked.output();
    assert!(
        output.contains("clusterId: ") && output.contains("LeaderServes"),
        "{output}"
    );
}

#[test]
fn a_node_whose_port_is_taken_gets_others() {
    let cluster = Cluster::new(1);
    let mut operator = Operator::start(&cluster);
    cluster.wait_ready(1);
    operator.kill();
    let process = cluster.processes()[0];
    let port = cluster.peer_port("demo-0");
    process.signal(Signal::KILL).unwrap();
    cluster.wait_for("the process is gone", || !process.is_alive());
    let _taken = cluster.listen(port, Duration::from_secs(10));

    let operator = Operator::start(&cluster);
    cluster.wait_for("it runs, and its memory is gone", || {
        operator.output().contains("QuorumLost") && !cluster.processes().is_empty()
    });
    assert_ne!(cluster.peer_port("demo-0"), port);
}

#[test]
fn survivors_of_a_total_loss_are_quarantined_and_start_empty_goes_on_without_them() {
    let cluster = Cluster::new(3);
    let _operator = Operator::start(&cluster);
    let first = cluster.wait_ready(3);
    data::put(&cluster, "key", "lost");
    let survivor = first.members[0].server_id.clone();
    for lost in &first.members[1..] {
        cluster
            .process_of(&lost.server_id)
            .signal(Signal::KILL)
            .unwrap();
    }
    cluster.wait_for(
        "the survivor is quarantined, and nothing else happens",
        || {
            let status = cluster.status();
            let member = status.members.iter().find(|it| it.server_id == survivor);
            let why = member.and_then(|member| member.quarantine.as_deref());
            status.cluster_id == first.cluster_id
                && why.is_some_and(|why| why.contains("quorum lost"))
        },
    );
    let recovery = "mode: Memory\n  recovery:\n    onTotalLoss: StartEmpty";
    cluster.edit("mode: Memory", recovery);
    let second = cluster.wait_ready(3);
    assert_ne!(second.cluster_id, first.cluster_id);
    assert!(
        second
            .members
            .iter()
            .all(|member| member.server_id != survivor)
    );
    assert_eq!(
        data::get(&cluster, "key"),
        None,
        "nothing goes on from what was left"
    );
}
