//! Progress of a server under any order of answers, and the rounds of a learner.

use std::time::Duration;

use proptest::prelude::*;

use crate::catch_up::{CatchUp, CatchUpLimits, CatchUpState};
use crate::progress::{Flow, Probe, Progress};
use crate::types::{Index, Time};

/// What may happen to a progress.
#[derive(Clone, Debug)]
enum Event {
    /// An append of so many entries is sent, each of so many bytes.
    Sent(u64, usize),
    /// It holds so many more of what was sent than is known.
    Accepted(u64),
    /// The append after this one did not fit, and the logs agree up to at most that.
    Rejected(u64, u64),
    Lost,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0u64..5, 0usize..100).prop_map(|(count, bytes)| Event::Sent(count, bytes)),
        3 => (0u64..5).prop_map(Event::Accepted),
        2 => (0u64..30, 0u64..30).prop_map(|(prev, at)| Event::Rejected(prev, at)),
        1 => Just(Event::Lost),
    ];
    prop::collection::vec(event, 0..40)
}

proptest! {
    /// The slow version keeps every append in flight, and finds what is left by looking at all.
    #[test]
    fn progress_is_what_looking_at_every_append_finds(first in 1u64..20, events in events()) {
        let mut progress = Progress::new(Index(first));
        let (mut matched, mut next, mut in_flight) = (0, first, Vec::new());
        let (mut is_probing, mut highest) = (true, first - 1);
        // The last entry of the probe that is on its way.
        let mut probed = None;
        for (at, event) in events.into_iter().enumerate() {
            let now = Time(at as u64);
            match event {
                Event::Sent(count, bytes) => {
                    let last = next + count - 1;
                    let bytes = count as usize * bytes;
                    progress.on_sent(now, Index(last), bytes);
                    highest = highest.max(last);
                    if is_probing {
                        let probe = Probe { at: now, last: Index(last) };
                        prop_assert_eq!(progress.flow, Flow::Probe(Some(probe)));
                        probed = Some(last);
                    } else if count > 0 {
                        in_flight.push((last, now, bytes));
                        next = last + 1;
                    }
                }
                Event::Accepted(more) => {
                    let index = (matched + more).min(highest);
                    let before = matched;
                    progress.on_accepted(Index(index), Index(0));
                    matched = matched.max(index);
                    next = next.max(matched + 1);
                    in_flight.retain(|(last, ..)| *last > matched);
                    // Less than the probe brought: the pipeline does not begin.
                    is_probing &= probed.is_some_and(|last| matched < last);
                    if !is_probing || matched > before {
                        probed = None;
                    }
                }
                Event::Rejected(prev, agreement) => {
                    progress.on_rejected(Index(prev), Index(agreement));
                    // News only if it is the probe's, or beyond what is known to match.
                    let is_news = if is_probing { prev + 1 == next } else { prev > matched };
                    if is_news {
                        let was = next;
                        next = prev.min(agreement + 1).max(matched + 1);
                        in_flight.clear();
                        // With nothing further back to try, the probe counts as on its way.
                        if !is_probing || next < was {
                            probed = None;
                        }
                        is_probing = true;
                    }
                }
                Event::Lost => {
                    progress.on_lost();
                    if !is_probing {
                        next = matched + 1;
                    }
                    in_flight.clear();
                    (is_probing, probed) = (true, None);
                }
            }
            let waits = match progress.flow {
                Flow::Probe(probe) => probe.map(|probe| probe.last.0),
                _ => None,
            };
            prop_assert_eq!(waits, probed);
            prop_assert_eq!((progress.matched.0, progress.next.0), (matched, next));
            prop_assert!(matched < next);
            prop_assert_eq!(matches!(progress.flow, Flow::Probe(_)), is_probing);
            prop_assert_eq!(progress.inflight(), in_flight.len());
            // Nothing is left behind in the account, whichever way the window was emptied (etcd-io/raft #54).
            let bytes = in_flight.iter().map(|sent| sent.2).sum::<usize>();
            prop_assert_eq!(progress.inflight_bytes(), bytes);
            prop_assert_eq!(progress.oldest_sent(), in_flight.first().map(|sent| sent.1));
            prop_assert_eq!(progress.newest_sent(), in_flight.last().map(|sent| sent.1));
        }
    }
}

const LIMITS: CatchUpLimits = CatchUpLimits {
    round_max: Duration::from_secs(1),
    rounds_max: 3,
    pause: Duration::from_secs(10),
};

fn millis(milliseconds: u64) -> Time {
    Time(milliseconds * 1_000_000)
}

/// A learner that began at 0 with 5 entries to fetch.
fn begun() -> CatchUp {
    CatchUp::new(millis(0), Index(5))
}

#[test]
fn a_round_is_over_only_once_all_that_it_began_with_is_there() {
    let mut catch_up = begun();
    catch_up.on_matched(millis(1), Index(4), Index(9), &LIMITS);
    assert_eq!(catch_up.state, CatchUpState::Running);
    catch_up.on_matched(millis(2), Index(5), Index(9), &LIMITS);
    assert_eq!(
        catch_up.state,
        CatchUpState::Ready,
        "though there is more by now"
    );
    let mut further = begun();
    further.on_matched(millis(2), Index(6), Index(9), &LIMITS);
    assert_eq!(further.state, CatchUpState::Ready);
}

#[test]
fn a_round_is_short_if_it_took_less_than_the_limit() {
    let mut short = begun();
    short.on_matched(millis(999), Index(5), Index(5), &LIMITS);
    assert_eq!(short.state, CatchUpState::Ready);
    let mut long = begun();
    long.on_matched(millis(1000), Index(5), Index(9), &LIMITS);
    assert_eq!(long.state, CatchUpState::Running);
    // The next one is for what had come until then, and is timed by itself.
    long.on_matched(millis(1500), Index(8), Index(12), &LIMITS);
    assert_eq!(long.state, CatchUpState::Running);
    long.on_matched(millis(1999), Index(9), Index(12), &LIMITS);
    assert_eq!(long.state, CatchUpState::Ready);
}

#[test]
fn after_its_rounds_a_learner_rests_and_begins_anew() {
    let mut catch_up = begun();
    for round in 1..=3 {
        assert_eq!(
            catch_up.state,
            CatchUpState::Running,
            "before round {round} ends"
        );
        catch_up.on_matched(millis(round * 1000), Index(5), Index(5), &LIMITS);
    }
    assert_eq!(catch_up.state, CatchUpState::Stalled(millis(13_000)));
    let heard = Some(millis(12_999));
    catch_up.on_matched(millis(3001), Index(5), Index(5), &LIMITS);
    catch_up.on_time(millis(12_999), heard, Index(5), Index(5), &LIMITS);
    assert_eq!(catch_up.state, CatchUpState::Stalled(millis(13_000)));
    catch_up.on_time(millis(13_000), heard, Index(5), Index(7), &LIMITS);
    assert_eq!(catch_up.state, CatchUpState::Running);
    catch_up.on_matched(millis(13_001), Index(6), Index(7), &LIMITS);
    assert_eq!(catch_up.state, CatchUpState::Running, "7 is to be fetched");
    catch_up.on_matched(millis(13_002), Index(7), Index(7), &LIMITS);
    assert_eq!(catch_up.state, CatchUpState::Ready);
}

#[test]
fn a_learner_that_says_nothing_for_a_pause_is_stalled() {
    // Not because its rounds take too long.
    let limits = CatchUpLimits {
        rounds_max: 1000,
        ..LIMITS
    };
    // When it was last heard, and when it counts as stalled.
    for (heard, stalled) in [(None, 10_000), (Some(4000), 14_000)] {
        let mut catch_up = CatchUp::new(millis(0), Index(5));
        let heard = heard.map(millis);
        catch_up.on_time(millis(stalled - 1), heard, Index(0), Index(5), &limits);
        assert_eq!(catch_up.state, CatchUpState::Running);
        catch_up.on_time(millis(stalled), heard, Index(0), Index(5), &limits);
        assert_eq!(
            catch_up.state,
            CatchUpState::Stalled(millis(stalled + 10_000))
        );
    }
    // What was heard before the round began says nothing of it: neither that it is over...
    let mut catch_up = CatchUp::new(millis(5000), Index(5));
    catch_up.on_time(
        millis(5100),
        Some(millis(4999)),
        Index(5),
        Index(5),
        &limits,
    );
    assert_eq!(catch_up.state, CatchUpState::Running);
    // ... nor since when it is silent.
    catch_up.on_time(
        millis(14_999),
        Some(millis(4000)),
        Index(5),
        Index(5),
        &limits,
    );
    assert_eq!(catch_up.state, CatchUpState::Running);
    catch_up.on_time(
        millis(5200),
        Some(millis(5000)),
        Index(5),
        Index(5),
        &limits,
    );
    assert_eq!(
        catch_up.state,
        CatchUpState::Ready,
        "heard since, and it holds all"
    );
}
