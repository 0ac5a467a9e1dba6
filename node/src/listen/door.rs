//! Who may come in: a bounded number of connections, and of each address no more than half of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The connections of a port.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    connections_max: u32,
    /// Of them, from one address: nobody alone shuts out everybody else.
    of_address_max: u32,
    places: Arc<Semaphore>,
    by_address: Arc<Mutex<BTreeMap<IpAddr, u32>>>,
}

/// The place of one connection; dropped, it is free.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    door: Door,
    address: IpAddr,
}

impl Door {
    /// Past so many connections, they are to be closed as they come.
    pub(crate) fn new(connections_max: u32) -> Self {
        Self {
            connections_max,
            of_address_max: connections_max / 2,
            places: Arc::new(Semaphore::new(connections_max as usize)),
            by_address: Arc::default(),
        }
    }

    /// A place for a connection; else why there is none.
    pub(crate) fn enter(&self, address: IpAddr) -> Result<Place, String> {
        let places = self.places.clone();
        let permit = places.try_acquire_owned();
        let permit =
            permit.map_err(|_| format!("{} connections are open", self.connections_max))?;
        let mut by_address = self.lock();
        let count = by_address.entry(address).or_insert(0);
        if *count >= self.of_address_max {
            return Err(format!(
                "{} connections of this address are open",
                self.of_address_max
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
        let all = self.places.acquire_many(self.connections_max);
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
        let door = Door::new(8);
        let address = |last| IpAddr::from([127, 0, 0, last]);
        let of = |last| -> Vec<Place> {
            let places = (0..8).map_while(|_| door.enter(address(last)).ok());
            places.collect()
        };
        let first = of(1);
        assert_eq!(first.len(), 4);
        let second = of(2);
        assert_eq!(first.len() + second.len(), 8);
        assert!(door.enter(address(3)).is_err());
        drop(first);
        assert!(door.enter(address(3)).is_ok());
        drop(second);
        assert!(door.lock().is_empty(), "nobody who left is remembered");
    }
}
