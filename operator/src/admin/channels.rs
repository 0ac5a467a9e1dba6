//! One lazily dialled connection for each address, the least recently used one given up at the
//! bound.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

/// Connections kept at once: nine servers of some hundred clusters. Beyond it the one that was
/// used longest ago is closed, which costs a dial and nothing else.
const CHANNELS_MAX: usize = 4096;
/// A dial that takes longer counts as no answer.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(400);

/// Connections by address; clones share them.
#[derive(Clone, Default)]
pub(super) struct Channels {
    shared: Arc<Mutex<Cache>>,
}

#[derive(Default)]
struct Cache {
    by_address: HashMap<String, Entry>,
    /// Counts uses, to know which entry was used longest ago.
    uses: u64,
}

struct Entry {
    channel: Channel,
    used: u64,
}

impl Channels {
    /// The connection to `address` (HOST:PORT).
    pub(super) fn get(&self, address: &str) -> Result<Channel, tonic::transport::Error> {
        let mut cache = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        cache.uses += 1;
        let used = cache.uses;
        if let Some(entry) = cache.by_address.get_mut(address) {
            entry.used = used;
            return Ok(entry.channel.clone());
        }
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .connect_lazy();
        if cache.by_address.len() >= CHANNELS_MAX {
            cache.evict();
        }
        cache.by_address.insert(
            address.to_owned(),
            Entry {
                channel: channel.clone(),
                used,
            },
        );
        Ok(channel)
    }

    /// Closes the connection to `address` once its calls have ended.
    pub(super) fn forget(&self, address: &str) {
        let mut cache = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        cache.by_address.remove(address);
    }
}

impl Cache {
    fn evict(&mut self) {
        let oldest = self.by_address.iter().min_by_key(|(_, entry)| entry.used);
        if let Some(address) = oldest.map(|(address, _)| address.clone()) {
            self.by_address.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_bound_holds_and_the_oldest_goes() {
        let channels = Channels::default();
        for port in 0..=CHANNELS_MAX {
            channels.get(&format!("127.0.0.1:{}", 1 + port)).unwrap();
        }
        let cache = channels.shared.lock().unwrap();
        assert_eq!(cache.by_address.len(), CHANNELS_MAX);
        assert!(!cache.by_address.contains_key("127.0.0.1:1"));
        assert!(cache.by_address.contains_key("127.0.0.1:2"));
    }
}
