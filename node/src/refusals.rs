//! Who was complained about: a peer that sends nonsense is logged once a minute, whatever it sends.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kontiki_raft::Time;

/// A peer is logged at most this often.
const INTERVAL: Duration = Duration::from_secs(60);
/// Peers that are remembered. If all of them were logged within the interval, one that is not among
/// them has to wait.
const PEERS_MAX: usize = 1024;

/// When each peer was logged last. Locked for a look-up at a time, and only when something is refused.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    peers: Mutex<BTreeMap<IpAddr, Said>>,
}

#[derive(Debug)]
struct Said {
    at: Time,
    /// What has not been said since.
    unsaid: u64,
}

impl Complaints {
    /// Whether something about `peer` may be logged now, and how much about it was not since the last
    /// time.
    pub(crate) fn may_say(&self, peer: IpAddr, now: Time) -> Option<u64> {
        // Nothing panics while it holds the lock.
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(said) = peers.get_mut(&peer) {
            if now.since(said.at) < INTERVAL {
                said.unsaid += 1;
                return None;
            }
            said.at = now;
            return Some(std::mem::take(&mut said.unsaid));
        }
        if peers.len() >= PEERS_MAX {
            peers.retain(|_, said| now.since(said.at) < INTERVAL);
        }
        if peers.len() >= PEERS_MAX {
            return None;
        }
        peers.insert(peer, Said { at: now, unsaid: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn a_peer_is_logged_once_in_a_minute_and_another_beside_it() {
        let complaints = Complaints::default();
        let second = |seconds| Time(0) + Duration::from_secs(seconds);
        assert_eq!(complaints.may_say(peer(1), second(0)), Some(0));
        assert_eq!(complaints.may_say(peer(1), second(1)), None);
        assert_eq!(complaints.may_say(peer(2), second(2)), Some(0));
        assert_eq!(complaints.may_say(peer(1), second(59)), None);
        assert_eq!(complaints.may_say(peer(1), second(60)), Some(2));
        assert_eq!(complaints.may_say(peer(1), second(61)), None);
    }

    #[test]
    fn no_number_of_peers_is_remembered_or_logged_beyond_the_bound() {
        let complaints = Complaints::default();
        let say = |number, now| complaints.may_say(peer(number), now);
        let said = (0..10_000).filter(|number| say(*number, Time(0)).is_some());
        assert_eq!(said.count(), PEERS_MAX);
        assert_eq!(
            complaints.peers.lock().expect("unpoisoned").len(),
            PEERS_MAX
        );
        assert_eq!(say(99_999, Time(0) + INTERVAL), Some(0), "the old give way");
        assert_eq!(complaints.peers.lock().expect("unpoisoned").len(), 1);
    }
}
