//! Connections: every server dials the servers of its configuration, hears when one is up, when it
//! breaks, and when nobody it knows is at the address any more.

use std::collections::BTreeMap;
use std::time::Duration;

use kontiki_node::driver::{Input, Loss};
use kontiki_raft::ServerId;

use super::{Event, World};
use crate::network::Place;
use crate::rng::Rng;

/// Between two dials to somebody who does not answer.
const REDIAL_MIN: Duration = Duration::from_millis(100);
const REDIAL_MAX: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Dialling,
    Up,
}

/// Who is connected to whom, by who dialled.
#[derive(Debug, Default)]
pub(super) struct Connections {
    lines: BTreeMap<(ServerId, ServerId), Line>,
}

impl Connections {
    /// Forgets all of a server that died; returns the connections that were up.
    pub(super) fn drop_all(&mut self, server: ServerId) -> Vec<(ServerId, ServerId)> {
        let concerns = |line: &(ServerId, ServerId)| line.0 == server || line.1 == server;
        let up = self.lines.iter().filter(|(_, line)| **line == Line::Up);
        let up = up.map(|(ends, _)| *ends).filter(concerns).collect();
        self.lines.retain(|ends, _| ends.0 != server);
        up
    }

    fn up(&self) -> impl Iterator<Item = (ServerId, ServerId)> {
        let up = self.lines.iter().filter(|(_, line)| **line == Line::Up);
        up.map(|(ends, _)| *ends)
    }
}

impl World {
    /// Dials whomever the server knows and is not connected to; hangs up on the others.
    pub(super) fn keep_connected(&mut self, server: ServerId, place: Place) {
        let Some(process) = self.places[place].as_ref() else {
            return;
        };
        let known = process.status.configuration.configuration.servers();
        let lines = &mut self.connections.lines;
        let before = |peer: &ServerId| lines.contains_key(&(server, *peer));
        let fresh: Vec<ServerId> = known
            .iter()
            .filter(|peer| **peer != server && !before(peer))
            .copied()
            .collect();
        lines.retain(|ends, _| ends.0 != server || known.contains(&ends.1));
        for peer in fresh {
            self.connections
                .lines
                .insert((server, peer), Line::Dialling);
            let (low, high) = (Duration::from_micros(100), Duration::from_millis(3));
            self.events_dial(server, peer, low, high);
        }
    }

    fn events_dial(&mut self, from: ServerId, to: ServerId, low: Duration, high: Duration) {
        let place = self.address[&from];
        self.between(place, low, high, Event::Dial(from, to));
    }

    /// Whether no connection lives between two servers.
    pub(super) fn cut_between(&self, one: ServerId, other: ServerId) -> bool {
        let (one, other) = (self.address.get(&one), self.address.get(&other));
        match (one, other) {
            (Some(a), Some(b)) => self.network.is_cut(*a, *b) || self.network.is_cut(*b, *a),
            _ => true,
        }
    }

    pub(super) fn dial(&mut self, from: ServerId, to: ServerId) {
        let wanted = self.connections.lines.get(&(from, to)) == Some(&Line::Dialling);
        if !wanted || !self.lives(from) {
            return;
        }
        let place = self.address[&from];
        let low = self.network.weather.delay_min;
        let high = self.network.weather.delay_max;
        if !self.cut_between(from, to) {
            let there = self.places[self.address[&to]].as_ref();
            match there {
                Some(process) if process.server == to && process.paused => {}
                Some(process) if process.server == to => {
                    self.between(place, low, high, Event::Connected(from, to));
                    return;
                }
                Some(_) | None => {
                    let event = Event::Disconnected(from, to, Loss::Gone);
                    self.between(place, low, high, event);
                }
            }
        }
        self.events_dial(from, to, REDIAL_MIN, REDIAL_MAX);
    }

    pub(super) fn connected(&mut self, from: ServerId, to: ServerId) {
        if !self.lives(to) {
            self.events_dial(from, to, REDIAL_MIN, REDIAL_MAX);
            return;
        }
        let line = self.connections.lines.get_mut(&(from, to));
        let Some(line) = line.filter(|line| **line == Line::Dialling) else {
            return;
        };
        *line = Line::Up;
        self.tally.add("connection: made");
        self.tell(from, Input::Connected(to));
        self.tell(from, Input::SnapshotsConnected(to));
    }

    pub(super) fn disconnected(&mut self, from: ServerId, to: ServerId, loss: Loss) {
        let Some(line) = self.connections.lines.get_mut(&(from, to)) else {
            return;
        };
        match loss {
            Loss::Broken if *line == Line::Up => {
                *line = Line::Dialling;
                self.tally.add("connection: broken");
                self.events_dial(from, to, Duration::ZERO, Duration::from_millis(1));
            }
            Loss::Broken => return,
            Loss::Gone if self.lives(to) => return,
            Loss::Gone => self.tally.add("connection: gone"),
        }
        self.tell(from, Input::Disconnected(to, loss));
    }

    /// Some connections break, those that a cut crosses or any; they are dialled anew.
    pub(super) fn break_connections(&mut self, only_cut: bool, permille: u64, rng: &mut Rng) {
        let up: Vec<_> = self.connections.up().collect();
        for (from, to) in up {
            if (only_cut && !self.cut_between(from, to)) || !rng.chance(permille) {
                continue;
            }
            let event = Event::Disconnected(from, to, Loss::Broken);
            // A cut is noticed late, by a keep-alive.
            let longest = if only_cut { 2000 } else { 5 };
            self.soon(rng, Duration::ZERO, Duration::from_millis(longest), event);
        }
    }

    fn tell(&mut self, server: ServerId, input: Input<u64>) {
        let place = self.address[&server];
        if self.process_mut(place, server).is_some() {
            self.input(place, input);
        }
    }
}
