//! Who can be reached where. Addresses are hints outside the configuration; ids decide.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kontiki_raft::ServerId;

/// A server and where it can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRef {
    /// This incarnation.
    pub id: ServerId,
    /// Name of its node; empty if not known.
    pub name: String,
    /// HOST:PORT of Peer and Admin; empty if not known.
    pub peer_address: String,
    /// HOST:PORT of Data and Kv; empty if not known, or if it serves none.
    pub client_address: String,
}

impl ServerRef {
    /// A server of which nothing but the id is known.
    pub fn unknown(id: ServerId) -> Self {
        Self {
            id,
            name: String::new(),
            peer_address: String::new(),
            client_address: String::new(),
        }
    }
}

impl std::fmt::Display for ServerRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name.as_str() {
            "" => write!(f, "{}", self.id),
            name => write!(f, "{name} ({})", self.id),
        }
    }
}

/// The addresses known to a server. Locked for a look-up at a time, and only off the path of a
/// write: on a dial, a redirect, an introduction.
#[derive(Debug)]
pub struct AddressBook {
    me: ServerRef,
    entries: Mutex<Entries>,
    entries_max: usize,
}

#[derive(Debug, Default)]
struct Entries {
    known: BTreeMap<ServerId, (ServerRef, u64)>,
    /// Servers of the configuration: they give way to nobody.
    members: BTreeSet<ServerId>,
    /// Counts what was learned, to tell old from new.
    clock: u64,
}

impl AddressBook {
    /// A book that knows its owner, and at most `entries_max` others.
    pub fn new(me: ServerRef, entries_max: usize) -> Self {
        Self {
            me,
            entries: Mutex::default(),
            entries_max,
        }
    }

    /// The owner.
    pub fn me(&self) -> &ServerRef {
        &self.me
    }

    /// Remembers a server. Empty fields say nothing and leave what was known. In a full book the
    /// entry that was learned longest ago gives way, those of members last.
    pub fn learn(&self, server: ServerRef) {
        if server.id == self.me.id {
            return;
        }
        let mut guard = self.lock();
        let entries = &mut *guard;
        entries.clock += 1;
        let id = server.id;
        let (known, at) = entries
            .known
            .entry(id)
            .or_insert_with(|| (ServerRef::unknown(id), 0));
        for (old, new) in [
            (&mut known.name, server.name),
            (&mut known.peer_address, server.peer_address),
            (&mut known.client_address, server.client_address),
        ] {
            if !new.is_empty() {
                *old = new;
            }
        }
        *at = entries.clock;
        if entries.known.len() > self.entries_max {
            let members = &entries.members;
            let oldest = entries.known.iter();
            let oldest = oldest.min_by_key(|(id, (_, at))| (members.contains(id), *at));
            if let Some((&oldest, _)) = oldest {
                entries.known.remove(&oldest);
            }
        }
    }

    /// Says who belongs to the configuration.
    pub fn keep(&self, members: &BTreeSet<ServerId>) {
        let mut entries = self.lock();
        if entries.members != *members {
            entries.members.clone_from(members);
        }
    }

    /// Whether a server belongs to the configuration.
    pub fn is_member(&self, id: ServerId) -> bool {
        self.lock().members.contains(&id)
    }

    /// What is known of a server; the owner itself among them.
    pub fn find(&self, id: ServerId) -> ServerRef {
        if id == self.me.id {
            return self.me.clone();
        }
        match self.lock().known.get(&id) {
            Some((server, _)) => server.clone(),
            None => ServerRef::unknown(id),
        }
    }

    /// All servers that go by a name, or have it as an address.
    pub fn named(&self, name: &str) -> Vec<ServerRef> {
        let guard = self.lock();
        let all = guard.known.values().map(|(server, _)| server);
        all.chain([&self.me])
            .filter(|server| [&server.name, &server.peer_address].contains(&&name.to_owned()))
            .cloned()
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Nothing panics while it holds the lock; entries are whole at any point anyway.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(id: u64, address: &str) -> ServerRef {
        ServerRef {
            peer_address: address.into(),
            name: format!("n{id}"),
            ..ServerRef::unknown(ServerId(id))
        }
    }

    #[test]
    fn empty_fields_leave_what_was_known() {
        let book = AddressBook::new(server(1, "me:1"), 16);
        book.learn(server(2, "a:1"));
        book.learn(ServerRef {
            client_address: "a:2".into(),
            ..ServerRef::unknown(ServerId(2))
        });
        let found = book.find(ServerId(2));
        assert_eq!(
            (&*found.peer_address, &*found.client_address),
            ("a:1", "a:2")
        );
        assert_eq!(book.find(ServerId(1)), server(1, "me:1"));
        assert_eq!(book.named("n2").len(), 1);
    }

    #[test]
    fn a_full_book_forgets_the_oldest() {
        let book = AddressBook::new(server(1, "me:1"), 2);
        for id in 2..5 {
            book.learn(server(id, "a:1"));
        }
        assert_eq!(book.find(ServerId(2)), ServerRef::unknown(ServerId(2)));
        assert_eq!(book.find(ServerId(4)), server(4, "a:1"));
    }

    #[test]
    fn strangers_do_not_push_out_a_member() {
        let book = AddressBook::new(server(1, "me:1"), 2);
        book.learn(server(2, "a:1"));
        book.keep(&[ServerId(1), ServerId(2)].into());
        for stranger in 3..100 {
            book.learn(server(stranger, "b:1"));
        }
        assert_eq!(book.find(ServerId(2)), server(2, "a:1"));
        assert_eq!(book.find(ServerId(98)), ServerRef::unknown(ServerId(98)));
        assert!(book.is_member(ServerId(2)) && !book.is_member(ServerId(99)));
    }

    #[test]
    fn the_owner_is_not_taught_about_itself() {
        let book = AddressBook::new(server(1, "me:1"), 2);
        book.learn(server(1, "elsewhere:1"));
        assert_eq!(book.find(ServerId(1)).peer_address, "me:1");
    }
}
