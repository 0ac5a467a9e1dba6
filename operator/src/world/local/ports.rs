//! Ports on loopback for a node: free when they are picked, and the same again as long as they are.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Below the ports from which the kernel takes those of outgoing connections, so that none of those
/// takes a node's port while it restarts.
const PICKED_FROM: Range<u16> = 10_240..32_768;
/// Ports tried before giving up.
const TRIES_MAX: usize = 1000;

/// The ports of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Data and Kv.
    pub client: u16,
    /// Peer and Admin.
    pub peer: u16,
    /// Metrics and probes.
    pub http: u16,
}

impl Ports {
    /// Three free ports, none of which is in `taken`; `None` if none was found.
    pub fn pick(taken: &[Ports]) -> Option<Self> {
        let mut found: Vec<u16> = Vec::new();
        for _ in 0..TRIES_MAX {
            let port = rand::random_range(PICKED_FROM);
            let known = found.contains(&port) || taken.iter().any(|ports| ports.has(port));
            if !known && is_free(port) {
                found.push(port);
            }
            if let [client, peer, http] = found[..] {
                return Some(Self { client, peer, http });
            }
        }
        None
    }

    /// Whether all of them are free.
    pub fn are_free(self) -> bool {
        [self.client, self.peer, self.http].into_iter().all(is_free)
    }

    fn has(self, port: u16) -> bool {
        [self.client, self.peer, self.http].contains(&port)
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picked_ports_are_free_and_different() {
        let first = Ports::pick(&[]).unwrap();
        let second = Ports::pick(&[first]).unwrap();
        assert!(first.are_free() && second.are_free());
        let all = [
            first.client,
            first.peer,
            first.http,
            second.client,
            second.peer,
            second.http,
        ];
        for (index, port) in all.iter().enumerate() {
            assert!(!all[..index].contains(port), "{all:?}");
        }
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first.peer)).unwrap();
        assert!(!first.are_free());
        drop(taken);
    }
}
