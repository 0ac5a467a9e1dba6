//! Money is conserved whatever is written, and versions differ in what they charge.

use kontiki_node::machine::{Command, StateMachine, Typed};
use kontiki_node::{Index, Term};
use proptest::prelude::*;

use super::*;

fn id(index: u64) -> LogId {
    LogId {
        term: Term(1),
        index: Index(index),
    }
}

fn open(account: &str) -> Change {
    let account = account.into();
    Change::Open { account }
}

fn mint(account: &str, amount: u64) -> Change {
    let account = account.into();
    Change::Mint { account, amount }
}

fn transfer(from: &str, to: &str, amount: u64) -> Change {
    let (from, to) = (from.into(), to.into());
    Change::Transfer { from, to, amount }
}

/// What a list of changes comes to; `switch` is the place of the first under version 2.
fn run(changes: &[Change], switch: usize) -> (Bank, Vec<Reply>) {
    let mut bank = Bank::default();
    let replies = changes.iter().enumerate().map(|(at, change)| {
        let version = if at < switch { 1 } else { 2 };
        let mut effects = Effects::default();
        bank.apply(version, id(at as u64 + 1), change.clone(), &mut effects)
    });
    let replies = replies.collect();
    (bank, replies)
}

/// The places of the changes that were made, and whether each was made under version 2.
fn made(replies: &[Reply], switch: usize) -> Vec<(usize, bool)> {
    let made = replies.iter().enumerate();
    let made = made.filter(|(_, reply)| matches!(reply, Reply::Done { .. }));
    made.map(|(at, _)| (at, at >= switch)).collect()
}

fn done(number: u64, balance: u64, fee: u64) -> Reply {
    Reply::Done {
        number,
        balance,
        fee,
    }
}

#[test]
fn money_moves_and_what_cannot_be_done_changes_nothing() {
    let changes = [
        open("ann"),
        open("bob"),
        mint("ann", 10),
        transfer("ann", "bob", 4),
        open("ann"),
        transfer("ann", "bob", 7),
        transfer("ann", "eve", 1),
        transfer("eve", "ann", 1),
        mint("eve", 1),
        mint("bob", u64::MAX),
        transfer("bob", "ann", 4),
    ];
    let (bank, replies) = run(&changes, usize::MAX);
    let eve = || Reply::Refused(Refusal::NoAccount("eve".into()));
    let (balance, needed) = (6, 7);
    assert_eq!(
        replies,
        [
            done(1, 0, 0),
            done(2, 0, 0),
            done(3, 10, 0),
            done(4, 6, 0),
            Reply::Refused(Refusal::Exists("ann".into())),
            Reply::Refused(Refusal::Short { balance, needed }),
            eve(),
            eve(),
            eve(),
            Reply::Refused(Refusal::Full),
            done(5, 0, 0),
        ]
    );
    assert_eq!(
        (bank.balance("ann"), bank.balance("bob")),
        (Some(10), Some(0))
    );
    let audit = bank.audit();
    assert_eq!((audit.minted, audit.held, audit.changes), (10, 10, 5));
}

#[test]
fn since_version_2_a_transfer_costs_a_fee_and_money_is_conserved() {
    let changes = [
        open("ann"),
        open("bob"),
        mint("ann", 10),
        transfer("ann", "bob", 4),
        transfer("ann", "bob", 5),
        transfer("ann", "bob", 1),
    ];
    let (free, replies) = run(&changes, usize::MAX);
    assert_eq!(replies[4..], [done(5, 1, 0), done(6, 0, 0)]);
    assert_eq!(free.balance(FEES), None);

    // The last of them can no longer be paid.
    let (charged, replies) = run(&changes, 4);
    let (balance, needed) = (0, 2);
    let short = Reply::Refused(Refusal::Short { balance, needed });
    assert_eq!(replies[3..], [done(4, 6, 0), done(5, 0, 1), short]);
    assert_eq!(charged.balance(FEES), Some(1));
    for bank in [&free, &charged] {
        assert_eq!(bank.held(), 10);
    }
    assert_ne!(free.audit().trail, charged.audit().trail);
}

#[test]
fn what_is_no_change_is_refused_with_what_would_be_right() {
    let machine = Typed::new(Bank::default());
    let validator = machine.validator();
    let long = format!(r#"{{"open":{{"account":"{}"}}}}"#, "a".repeat(65));
    for (bad, why) in [
        ("", "not a command of bank"),
        (r#"{"rob":{"account":"ann"}}"#, "`open`, `mint`, `transfer`"),
        (r#"{"open":{"account":"Ann"}}"#, "1 to 64 of a-z, 0-9 and -"),
        (r#"{"open":{"account":""}}"#, "1 to 64 of a-z, 0-9 and -"),
        (&long, "1 to 64 of a-z, 0-9 and -"),
        (r#"{"open":{"account":"fees"}}"#, "the bank's own"),
        (
            r#"{"mint":{"account":"fees","amount":1}}"#,
            "the bank's own",
        ),
        (r#"{"mint":{"account":"ann","amount":0}}"#, "at least 1"),
        (r#"{"mint":{"account":"ann","amount":-1}}"#, "-1"),
        (
            r#"{"mint":{"account":"ann","amount":1,"of":"gold"}}"#,
            "`of`",
        ),
        (r#"{"transfer":{"from":"a","to":"a","amount":1}}"#, "itself"),
        (r#"{"transfer":{"from":"fees","to":"a","amount":1}}"#, "own"),
        (r#"{"transfer":{"from":"a","to":"fees","amount":1}}"#, "own"),
        (
            r#"{"transfer":{"from":"a","to":"b","amount":0}}"#,
            "at least",
        ),
    ] {
        for version in Bank::VERSIONS {
            let refused = validator(version, bad.as_bytes()).expect_err(bad);
            assert!(refused.0.contains(why), "{bad}: {refused}");
        }
    }
    let good = br#"{"transfer":{"from":"a","to":"b-2","amount":1}}"#;
    assert_eq!(validator(1, good), Ok(()));
}

#[test]
fn questions_are_answered_in_pages_and_in_json() {
    let changes = [open("c"), open("a"), open("b"), mint("b", 5)];
    let machine = Typed::new(run(&changes, 0).0);
    for (question, answer) in [
        (r#"{"balance":{"account":"b"}}"#, r#"{"balance":5}"#),
        (r#"{"balance":{"account":"x"}}"#, r#"{"balance":null}"#),
        (r#""total""#, r#"{"total":5}"#),
        (
            r#"{"accounts":{"limit":2}}"#,
            r#"{"accounts":[["a",0],["b",5]]}"#,
        ),
        (
            r#"{"accounts":{"after":"b","limit":9}}"#,
            r#"{"accounts":[["c",0]]}"#,
        ),
        (r#"{"accounts":{"limit":0}}"#, r#"{"accounts":[]}"#),
    ] {
        let found = machine.read(question.as_bytes()).expect(question);
        assert_eq!(String::from_utf8(found).expect("JSON"), answer);
    }
    assert!(machine.read(br#"{"secret":{}}"#).is_err());
}

#[test]
fn no_page_is_longer_than_the_longest() {
    let changes: Vec<_> = (0..PAGE_MAX + 1).map(|at| open(&at.to_string())).collect();
    let bank = run(&changes, 0).0;
    let question = Question::Accounts {
        after: String::new(),
        limit: usize::MAX,
    };
    let Answer::Accounts(page) = bank.read(question) else {
        panic!("accounts were asked for");
    };
    assert_eq!(page.len(), PAGE_MAX);
}

#[test]
fn a_fee_that_cannot_be_counted_makes_no_money() {
    let all = u64::MAX;
    let changes = [
        open("ann"),
        open("bob"),
        mint("ann", all),
        transfer("ann", "bob", all),
    ];
    let (bank, replies) = run(&changes, 3);
    let short = Refusal::Short {
        balance: all,
        needed: all,
    };
    assert_eq!(replies[3], Reply::Refused(short));
    assert_eq!(bank.audit().held, all);
}

/// Few accounts and amounts near each other and near the largest, so that they collide.
fn any_change() -> impl Strategy<Value = Change> {
    let account = || prop::sample::select(vec!["a", "b", "c", "d"]);
    let amount = || prop_oneof![8 => 1_u64..20, 1 => u64::MAX - 20..=u64::MAX];
    prop_oneof![
        2 => account().prop_map(open),
        2 => (account(), amount()).prop_map(|(account, amount)| mint(account, amount)),
        6 => (account(), account(), amount())
            .prop_filter("two accounts", |(from, to, _)| from != to)
            .prop_map(|(from, to, amount)| transfer(from, to, amount)),
    ]
}

fn any_changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec(any_change(), 0..80)
}

proptest! {
    #[test]
    fn money_is_conserved(changes in any_changes(), switch in 0_usize..80) {
        let mut minted = 0_u128;
        let mut fees = 0;
        let (bank, replies) = run(&changes, switch);
        for (change, reply) in changes.iter().zip(&replies) {
            if let (Change::Mint { amount, .. }, Reply::Done { .. }) = (change, reply) {
                minted += u128::from(*amount);
            }
            if let Reply::Done { fee, .. } = reply {
                fees += fee;
            }
        }
        let held: u128 = bank.accounts.values().copied().map(u128::from).sum();
        prop_assert_eq!(held, minted);
        prop_assert_eq!(u128::from(bank.audit().minted), minted);
        prop_assert_eq!(bank.balance(FEES).unwrap_or(0), fees);
    }

    #[test]
    fn the_numbers_of_the_trail_have_no_gap(changes in any_changes(), switch in 0_usize..80) {
        let (bank, replies) = run(&changes, switch);
        let numbers: Vec<u64> = replies.iter().filter_map(|reply| match reply {
            Reply::Done { number, .. } => Some(*number),
            Reply::Refused(_) => None,
        }).collect();
        prop_assert_eq!(&numbers, &(1..=bank.audit().changes).collect::<Vec<_>>());
    }

    #[test]
    fn one_change_under_another_version_is_seen_for_ever(
        changes in any_changes(), one in 0_usize..80, other in 0_usize..80,
    ) {
        // A fee that only one of the runs charges may leave too little for a change that the other makes
        // later, so what each of them made has to be compared.
        let runs = [one, other].map(|switch| {
            let (bank, replies) = run(&changes, switch);
            (bank.audit().trail, made(&replies, switch))
        });
        let [(trail, made), (other_trail, other_made)] = runs;
        prop_assert_eq!(trail != other_trail, made != other_made);
    }

    #[test]
    fn changes_replies_and_the_state_survive_json(changes in any_changes()) {
        let (bank, replies) = run(&changes, 40);
        for (change, reply) in changes.iter().zip(replies) {
            let json = Typed::<Bank>::command(change).unwrap();
            prop_assert_eq!(&serde_json::from_slice::<Change>(&json).unwrap(), change);
            let json = serde_json::to_vec(&reply).unwrap();
            prop_assert_eq!(Typed::<Bank>::reply(&json).unwrap(), reply);
        }
        let mut bytes = Vec::new();
        let mut view = Typed::new(bank.clone()).snapshot();
        while view.write(&mut bytes, 7) {}
        let mut restored = Typed::new(Bank::default());
        restored.restore(2, &mut &bytes[..]).unwrap();
        let audit = restored.read(br#""audit""#).unwrap();
        prop_assert_eq!(
            serde_json::from_slice::<Answer>(&audit).unwrap(),
            Answer::Audit(bank.audit())
        );
    }

    #[test]
    fn no_bytes_make_money(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut machine = Typed::new(run(&[open("a"), mint("a", 5)], 0).0);
        let batch = [Command { id: id(3), bytes: &bytes }];
        machine.apply(2, &batch, &mut Effects::default());
        prop_assert_eq!(machine.read(br#""total""#).unwrap(), br#"{"total":5}"#);
    }
}
