//! Who may come in: a bounded number of connections, and of each address no more than half of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections of one port; past it, they are closed as they come.
pub(super) const CONNECTIONS_MAX: u32 = 2048;
/// Of them, from one address: nobody alone shuts out everybody else.
pub(super) const CONNECTIONS_OF_ADDRESS_MAX: u32 = CONNECTIONS_MAX / 2;

/// The connections of a port.
#[derive(Clone, Debug)]
pub(super) struct Door {
    places: Arc<Semaphore>,
    by_address: Arc<Mutex<BTreeMap<IpAddr, u32>>>,
}

/// The place of one connection; dropped, it is free.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    door: Door,
    address: IpAddr,
}

impl Door {
    pub(super) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX as usize)),
            by_address: Arc::default(),
        }
    }

    /// A place for a connection; else why there is none.
    pub(super) fn enter(&self, address: IpAddr) -> Result<Place, String> {
        let places = self.places.clone();
        let permit = places.try_acquire_owned();
        let permit = permit.map_err(|_| format!("{CONNECTIONS_MAX} connections are open"))?;
        let mut by_address = self.lock();
        let count = by_address.entry(address).or_insert(0);
        if *count >= CONNECTIONS_OF_ADDRESS_MAX {
            return Err(format!(
                "{CONNECTIONS_OF_ADDRESS_MAX} connections of this address are open"
            ));
        }
        *count += 1;
        Ok(Place {
            _permit: permit,
            door: self.clone(),
            address,
        })
    }

    /// Waits until no connection is left, at most `wait`.
    pub(super) async fn emptied(&self, wait: Duration) {
        let all = self.places.acquire_many(CONNECTIONS_MAX);
        // Who has not finished by then is cut off with the process.
        let _ = tokio::time::timeout(wait, all).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<IpAddr, u32>> {
        // Nothing panics while it holds the lock.
        self.by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_address = self.door.lock();
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_gets_half_of_the_places_and_all_together_no_more_than_there_are() {
        let door = Door::new();
        let address = |last| IpAddr::from([127, 0, 0, last]);
        let of = |last| -> Vec<Place> {
            let places = (0..CONNECTIONS_MAX).map_while(|_| door.enter(address(last)).ok());
            places.collect()
        };
        let first = of(1);
        assert_eq!(first.len(), CONNECTIONS_OF_ADDRESS_MAX as usize);
        let second = of(2);
        assert_eq!(first.len() + second.len(), CONNECTIONS_MAX as usize);
        assert!(door.enter(address(3)).is_err());
        drop(first);
        assert!(door.enter(address(3)).is_ok());
        drop(second);
        assert!(door.lock().is_empty(), "nobody who left is remembered");
    }
}
