//! A folder between page cache and medium: the changes of names that are not synced.

use std::collections::BTreeMap;

use super::file::Fates;
use crate::rng::Rng;

/// A file or folder, by its number on the disk.
pub(super) type Node = usize;

#[derive(Clone, Debug)]
enum Change {
    Linked {
        name: String,
        node: Node,
    },
    Removed {
        name: String,
    },
    Renamed {
        from: String,
        to: String,
        node: Node,
    },
}

/// Names, and what they stand for.
#[derive(Clone, Debug, Default)]
pub(super) struct Folder {
    cached: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    /// In order, each with its number.
    unsynced: Vec<(u64, Change)>,
}

impl Folder {
    pub(super) fn get(&self, name: &str) -> Option<Node> {
        self.cached.get(name).copied()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.cached.keys().cloned().collect()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (&str, Node)> {
        self.cached
            .iter()
            .map(|(name, node)| (name.as_str(), *node))
    }

    pub(super) fn link(&mut self, number: u64, name: &str, node: Node) {
        let name = name.to_owned();
        self.change(number, Change::Linked { name, node });
    }

    pub(super) fn remove(&mut self, number: u64, name: &str) {
        let name = name.to_owned();
        self.change(number, Change::Removed { name });
    }

    pub(super) fn rename(&mut self, number: u64, from: &str, to: &str, node: Node) {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.change(number, Change::Renamed { from, to, node });
    }

    fn change(&mut self, number: u64, change: Change) {
        apply(&mut self.cached, &change);
        self.unsynced.push((number, change));
    }

    pub(super) fn sync(&mut self) {
        self.durable.clone_from(&self.cached);
        self.unsynced.clear();
    }

    /// The power goes: every change is there or not.
    pub(super) fn lose_power(&mut self, rng: &mut Rng, arrival: u64, fates: &mut Fates) {
        for (number, change) in std::mem::take(&mut self.unsynced) {
            if rng.chance(arrival) {
                apply(&mut self.durable, &change);
                fates.arrived.push(number);
            } else {
                fates.lost.push(number);
            }
        }
        self.cached.clone_from(&self.durable);
    }
}

fn apply(names: &mut BTreeMap<String, Node>, change: &Change) {
    match change {
        Change::Linked { name, node } => {
            names.insert(name.clone(), *node);
        }
        Change::Removed { name } => {
            names.remove(name);
        }
        Change::Renamed { from, to, node } => {
            names.remove(from);
            names.insert(to.clone(), *node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subset_of_unsynced_changes_occurs_and_none_of_synced_ones() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut folder = Folder::default();
            folder.link(1, "kept", 1);
            folder.link(2, "x.new", 2);
            folder.sync();
            folder.rename(3, "x.new", "x", 2);
            folder.remove(4, "kept");
            folder.lose_power(&mut Rng::new(seed), 500, &mut Fates::default());
            seen.insert(folder.names());
        }
        let all: [&[&str]; 4] = [&["kept", "x"], &["kept", "x.new"], &["x"], &["x.new"]];
        assert!(seen.iter().eq(all.iter()), "{seen:?}");
    }
}
