//! Precedence, and messages that name the place.

use std::io::Write;

use clap::{CommandFactory, Parser};

use super::*;

fn load(yaml: &str, flags: &[&str]) -> Result<Config, String> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(yaml.as_bytes()).expect("written");
    let path = file.path().to_str().expect("a name").to_string();
    let arguments = [&["kontiki-node", "--config", &path], flags].concat();
    let cli = Cli::try_parse_from(arguments).map_err(|error| error.to_string())?;
    Config::load(&cli).map_err(|error| error.to_string().replace(&path, "FILE"))
}

#[test]
fn flags_are_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn an_empty_file_stands_for_the_defaults() {
    for empty in ["", "# nothing\n", "---\n"] {
        let config = load(empty, &[]).expect("valid");
        assert_eq!(config.machine, Some(MachineKind::Kv));
        let machine = None;
        assert_eq!(Config { machine, ..config }, Config::default());
    }
}

#[test]
fn flags_win_over_the_file() {
    let yaml = "nodeName: a\nmachine: counter\nraft:\n  heartbeatMilliseconds: 7\n";
    let config = load(yaml, &["--node-name", "b"]).expect("valid");
    assert_eq!(config.node_name, "b");
    assert_eq!(config.machine, Some(MachineKind::Counter));
    assert_eq!(config.raft.heartbeat_milliseconds, 7);
}

#[test]
fn the_state_limit_is_a_share_of_the_memory_and_lowers_other_bounds() {
    let limits = |flags: &[&str]| load("", flags).expect("valid").limits;
    assert_eq!(limits(&[]).state_limit(), None);
    assert_eq!(limits(&[]).within_state_limit(), limits(&[]));
    let memory = limits(&["--memory-bytes", "134217728"]);
    assert_eq!(memory.state_limit(), Some(134_217_728 / 5 * 2));
    let both = [
        "--memory-bytes",
        "134217728",
        "--state-bytes-max",
        "16777216",
    ];
    let limits = limits(&both);
    assert_eq!(limits.state_limit(), Some(16 << 20));
    let lowered = limits.within_state_limit();
    assert_eq!(lowered.log_tail_bytes, 2 << 20);
    assert_eq!(lowered.unapplied_bytes_max, 2 << 20);
    assert_eq!(lowered.log_kept_bytes_max, 4 << 20);
    assert_eq!(lowered.peer_queue_bytes_max, 4 << 20);
    assert_eq!(lowered.requests_bytes_max, 4 << 20);
    let watch = WatchSettings::default().within(limits.state_limit());
    assert_eq!(watch.history_bytes_max, 1 << 20);
    let driver = load("", &both).expect("valid").driver(false);
    assert_eq!(driver.state_bytes_max, Some(16 << 20));
    assert_eq!(driver.raft.uncommitted_bytes_max, 2 << 20);
    assert_eq!(driver.raft.inflight_bytes_max, 1 << 20);
    assert_eq!(driver.raft.log_tail_bytes, 2 << 20);
    assert_eq!(driver.sessions.bytes_max, 2 << 20);
    // Lower ones are left as they are.
    let low = load("limits:\n  logTailBytes: 4096\n", &both).expect("valid");
    assert_eq!(low.limits.within_state_limit().log_tail_bytes, 4096);
    let error = load("", &["--state-bytes-max", "8388607"]).expect_err("too little");
    assert!(
        error.starts_with("--state-bytes-max (or KONTIKI_STATE_BYTES_MAX): limits.stateBytesMax"),
        "{error}"
    );
}

#[test]
fn what_is_printed_is_read_back() {
    let config = load("advertise:\n  host: h\n", &["--log-format", "json"]).expect("valid");
    assert_eq!(load(&config.to_yaml(), &[]).expect("valid"), config);
}

#[test]
fn a_program_with_a_machine_of_its_own_runs_no_other() {
    let load = |yaml: &str, machine| {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(yaml.as_bytes()).expect("written");
        let cli = Cli {
            config: Some(file.path().into()),
            machine,
            own_machine: true,
            ..Cli::default()
        };
        let path = file.path().to_str().expect("a name").to_owned();
        Config::load(&cli).map_err(|error| error.to_string().replace(&path, "FILE"))
    };
    let config = load("nodeName: a\n", None).expect("valid");
    assert_eq!(config.machine, None);
    assert!(!config.to_yaml().contains("machine"));
    let right = "must be left out: this program has a machine of its own";
    assert_eq!(
        load("nodeName: a\nmachine: kv\n", None).expect_err("in the file"),
        format!("FILE:2: machine is \"kv\", {right}")
    );
    assert_eq!(
        load("", Some(MachineKind::Counter)).expect_err("by a flag"),
        format!("--machine (or KONTIKI_MACHINE): machine is \"counter\", {right}")
    );
}

#[test]
fn a_typo_names_file_line_field_and_what_is_right() {
    let error = load("nodeName: a\nraft:\n  heartbeatMillisecond: 5\n", &[]).expect_err("a typo");
    for part in [
        "FILE:3: ",
        "heartbeatMillisecond",
        "heartbeatMilliseconds",
        "electionTimeoutMilliseconds",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn a_value_of_the_wrong_type_names_its_field() {
    let error = load("raft:\n  minMajority: two\n", &[]).expect_err("no number");
    assert!(error.starts_with("FILE:2: "), "{error}");
    assert!(error.contains("minMajority"), "{error}");
}

#[test]
fn the_settings_reach_the_engine() {
    let yaml = "dirtyRead: false
raft:
  heartbeatMilliseconds: 7
  electionTimeoutMilliseconds: 70
  electionTimeoutMaxMilliseconds: 700
  batchEntriesMax: 100
  minMajority: 2
  leaseReads: true
limits:
  unappliedBytesMax: 9
";
    let driver = load(yaml, &[]).expect("valid").driver(false);
    let milliseconds = Duration::from_millis;
    let (raft, usual) = (&driver.raft, Config::default().driver(false).raft);
    assert_eq!(raft.heartbeat, milliseconds(7));
    assert_eq!(raft.election_timeout_min, milliseconds(70));
    assert_eq!(raft.election_timeout_max, milliseconds(700));
    assert_eq!((raft.append_entries_max, raft.min_majority), (100, 2));
    assert_eq!((driver.unapplied_bytes_max, driver.dirty_read), (9, false));
    assert_eq!(
        (
            driver.lease_reads,
            Config::default().driver(false).lease_reads
        ),
        (true, false)
    );
    // Unless it is given, the longest timeout is twice the shortest.
    assert_eq!(usual.election_timeout_max, 2 * usual.election_timeout_min);
}

#[test]
fn values_out_of_range_name_place_and_range() {
    let timeout = "raft:\n  heartbeatMilliseconds: 100\n  electionTimeoutMilliseconds: 199\n";
    for (yaml, flags, expected) in [
        (
            "raft:\n  minMajority: 0\n",
            &[][..],
            "FILE:2: raft.minMajority is \"0\", must be 1 to 9",
        ),
        (
            timeout,
            &[],
            "FILE:3: raft.electionTimeoutMilliseconds is \"199\", must be 200 at least, twice \
             raft.heartbeatMilliseconds (100); ten times that is usual",
        ),
        (
            "",
            &["--heartbeat-ms", "0"],
            "--heartbeat-ms (or KONTIKI_HEARTBEAT_MS): raft.heartbeatMilliseconds is \"0\", must \
             be 1 to 60000",
        ),
        (
            "limits:\n  memoryBytes: 20971520\n  stateBytesMax: 20971521\n",
            &[],
            "FILE:3: limits.stateBytesMax is \"20971521\", must be at most limits.memoryBytes \
             (20971520); 40 % of that is usual",
        ),
        (
            "limits:\n  commandBytesMax: 2097153\n",
            &["--state-bytes-max", "8388608"],
            "FILE:2: limits.commandBytesMax is \"2097153\", must be at most 2097152, a quarter of the \
             state limit",
        ),
        (
            "raft:\n  electionTimeoutMaxMilliseconds: 999\n",
            &[],
            "FILE:2: raft.electionTimeoutMaxMilliseconds is \"999\", must be 1000 to 600000",
        ),
        (
            "limits:\n  requestsMax: 1\n",
            &[],
            "FILE:2: limits.requestsMax is \"1\", must be 16 to 1048576",
        ),
        (
            "sessions:\n  ttlMilliseconds: 999\n",
            &[],
            "FILE:2: sessions.ttlMilliseconds is \"999\", must be 1000 to 86400000",
        ),
        (
            "listen: {client: nonsense}\n",
            &[],
            "FILE: listen.client is \"nonsense\", must be HOST:PORT, such as 0.0.0.0:7400 or \
             [::1]:0",
        ),
    ] {
        assert_eq!(load(yaml, flags).expect_err(yaml), expected);
    }
}

#[test]
fn addresses_have_a_host_and_a_port() {
    for good in [
        "0.0.0.0:0",
        "localhost:7400",
        "[::1]:80",
        "demo-0.demo-peers.x.svc:1",
    ] {
        assert!(load::is_address(good), "{good}");
    }
    for bad in [
        "",
        ":1",
        "host",
        "host:",
        "host:70000",
        "::1:80",
        "a b:1",
        "http://h:1",
    ] {
        assert!(!load::is_address(bad), "{bad}");
    }
}
