//! What is warned about, in which words.

use proptest::prelude::*;

use super::*;

fn settings() -> Settings {
    Settings {
        heartbeat: Duration::from_millis(100),
        election_timeout_min: Duration::from_millis(1000),
        election_timeout_max: Duration::from_millis(2000),
        min_majority: 1,
        election_priority: 10,
        lease_reads: false,
        uncommitted_bytes_max: 64 << 20,
        command_bytes_max: 1 << 20,
        state_bytes_max: None,
        snapshot_bytes_max: 16 << 30,
    }
}

/// What is warned about, in words.
type Said = Vec<(WarningReason, String)>;

/// What is said of three voters, of which the first leads; each round trip takes so long.
fn said_of(all: [&Settings; 3], round_trip: Duration) -> Said {
    let members = [1, 2, 3].map(ServerId).into_iter().zip(all).collect();
    let configuration = Configuration::of([1, 2, 3].map(ServerId));
    let to = |server| (server != ServerId(1)).then_some(round_trip);
    let warnings = compare(ServerId(1), &members, &configuration, to);
    let name = |server: ServerId| format!("demo-{}", server.0);
    let warnings = warnings.iter();
    let described = warnings.map(|warning| (warning.reason, warning.describe(name)));
    described.collect()
}

/// What is said if the second server is different.
fn said(change: impl FnOnce(&mut Settings)) -> Said {
    let (usual, mut other) = (settings(), settings());
    change(&mut other);
    said_of([&usual, &other, &usual], Duration::from_millis(1))
}

#[test]
fn settings_that_fit_are_not_warned_about() {
    assert_eq!(said(|_| {}), []);
    // What differs a little, or is a server's own.
    assert_eq!(
        said(|other| {
            other.heartbeat *= 3;
            other.election_timeout_min *= 2;
            other.min_majority = 3;
            other.election_priority = 0;
            other.uncommitted_bytes_max /= 2;
        }),
        []
    );
}

#[test]
fn what_does_not_fit_is_named_with_both_values_and_what_is_right() {
    let limited = |limit| move |other: &mut Settings| other.state_bytes_max = Some(limit);
    let cases: [(Said, WarningReason, &str); 9] = [
        (
            said(|other| other.heartbeat *= 4),
            WarningReason::SlowHeartbeat,
            "demo-2 sends a heartbeat every 400 ms (raft.heartbeatMilliseconds), and demo-1 \
             campaigns after 1000 ms without one (raft.electionTimeoutMilliseconds): that must be \
             1200 ms at least, 3 heartbeats",
        ),
        (
            said(|other| other.min_majority = 4),
            WarningReason::MinMajority,
            "demo-2 needs 4 votes (raft.minMajority), and there are 3 voters: it can never lead",
        ),
        (
            said(|other| other.election_timeout_min *= 3),
            WarningReason::ElectionTimeouts,
            "raft.electionTimeoutMilliseconds is 1000 ms at demo-1 and 3000 ms at demo-2: the one \
             always campaigns before the other, and a leader that one of them has given up the \
             other still follows",
        ),
        (
            said(|other| other.lease_reads = true),
            WarningReason::LeaseReads,
            "raft.leaseReads is false at demo-1 and true at demo-2: who leads decides",
        ),
        (
            said(|other| other.uncommitted_bytes_max = 16 << 20),
            WarningReason::UncommittedBytes,
            "the bound of what is not committed (an eighth of limits.stateBytesMax) is 16777216 \
             bytes at demo-2 and 67108864 bytes at demo-1: as followers they store at most twice \
             their own, and hold a leader up that sends more",
        ),
        (
            said(|other| other.command_bytes_max += 1),
            WarningReason::CommandBytes,
            "limits.commandBytesMax is 1048576 bytes at demo-1 and 1048577 bytes at demo-2: which \
             commands are too large depends on who leads",
        ),
        (
            said(limited(1 << 30)),
            WarningReason::StateLimits,
            "the state limit (limits.stateBytesMax) is 1073741824 bytes at demo-2 and none at \
             demo-1: a state that fills the larger one does not fit into a snapshot that the other \
             takes in",
        ),
        (
            said_of(
                [&settings(), &settings(), &settings()],
                Duration::from_micros(250_001),
            ),
            WarningReason::SlowRoundTrip,
            "a round trip from the leader to demo-3 takes 251 ms, and demo-1 campaigns after \
             1000 ms (raft.electionTimeoutMilliseconds): that must be 1001 ms at least, 4 round \
             trips",
        ),
        (
            {
                let zero = Settings {
                    election_priority: 0,
                    ..settings()
                };
                said_of([&zero, &zero, &zero], Duration::ZERO)
            },
            WarningReason::ElectionPriority,
            "every voter has raft.electionPriority 0, demo-1 as well: nobody campaigns unless \
             nobody else can lead, or it is told to",
        ),
    ];
    for (said, reason, text) in cases {
        assert_eq!(said, [(reason, text.to_owned())]);
    }
}

#[test]
fn leases_that_a_round_trip_outlasts_are_named() {
    let leased = Settings {
        heartbeat: Duration::from_millis(20),
        lease_reads: true,
        ..settings()
    };
    let said = |took| said_of([&leased, &leased, &leased], Duration::from_millis(took));
    assert_eq!(said(80), []);
    let [(WarningReason::NoLease, text)] = &said(81)[..] else {
        panic!("{:?}", said(81));
    };
    assert!(
        text.starts_with("a round trip from the leader to demo-3 takes 81 ms, which is longer"),
        "{text}"
    );
}

#[test]
fn a_snapshot_that_does_not_fit_is_named_once() {
    let all = Settings {
        state_bytes_max: Some(32 << 30),
        ..settings()
    };
    let said = said_of([&all, &all, &all], Duration::ZERO);
    let [(WarningReason::SnapshotBytes, text)] = &said[..] else {
        panic!("{said:?}");
    };
    let right = "demo-1 receives snapshots of at most 17179869184 bytes \
                 (limits.snapshotBytesMax), and demo-3 may hold a state of 34359738368 bytes";
    assert!(text.starts_with(right), "{text}");
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let times = (any::<u64>(), any::<u64>(), any::<u32>());
    let flags = (any::<u8>(), any::<bool>());
    let sizes = (
        any::<u64>(),
        any::<u64>(),
        any::<Option<u64>>(),
        any::<u64>(),
    );
    (times, flags, sizes).prop_map(|(times, flags, sizes)| Settings {
        heartbeat: Duration::from_millis(times.0),
        election_timeout_min: Duration::from_millis(times.1),
        election_timeout_max: Duration::MAX,
        min_majority: times.2,
        election_priority: flags.0,
        lease_reads: flags.1,
        uncommitted_bytes_max: sizes.0,
        command_bytes_max: sizes.1,
        state_bytes_max: sizes.2,
        snapshot_bytes_max: sizes.3,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever members say: each reason once, in order, of members, and in bounded words.
    #[test]
    fn any_settings_are_compared(
        all in prop::collection::vec(any_settings(), 1..9),
        took in any::<u64>(),
    ) {
        let ids = (1..).map(ServerId);
        let members: BTreeMap<ServerId, &Settings> = ids.zip(&all).collect();
        let configuration = Configuration::of(members.keys().copied());
        let warnings = compare(ServerId(1), &members, &configuration, |_| {
            Some(Duration::from_nanos(took))
        });
        prop_assert!(warnings.is_sorted_by(|a, b| a.reason < b.reason));
        for warning in warnings {
            prop_assert!(warning.servers().count() > 0);
            prop_assert!(warning.servers().all(|server| members.contains_key(&server)));
            let text = warning.describe(|server| server.to_string());
            prop_assert!(text.len() < 512, "{text}");
        }
    }
}
