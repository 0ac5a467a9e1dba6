//! What the network does to messages: delay, loss, duplication, reordering, and cuts between places
//! in one or both directions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::rng::Rng;

/// Index of a place where a server may run: a pod with its address.
pub type Place = usize;

/// How the network behaves at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Shortest delay.
    pub delay_min: Duration,
    /// Longest usual delay.
    pub delay_max: Duration,
    /// Lost messages in a thousand.
    pub loss: u64,
    /// Messages in a thousand that arrive twice.
    pub duplication: u64,
    /// Messages in a thousand that are held up for `spike`.
    pub spikes: u64,
    /// By how much.
    pub spike: Duration,
}

/// Places that do not hear from each other.
#[derive(Clone, Debug)]
struct Cut {
    id: u64,
    /// Directed: from, to.
    links: BTreeSet<(Place, Place)>,
}

/// The network between places.
#[derive(Debug)]
pub struct Network {
    /// As it is.
    pub weather: Weather,
    calm: Weather,
    /// Messages of one link keep their order, as on one stream.
    ordered: bool,
    cuts: Vec<Cut>,
    cut_next: u64,
    last_arrival: BTreeMap<(Place, Place), u64>,
}

/// What becomes of one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// When it arrives, if it does.
    pub arrival: Option<u64>,
    /// When a copy of it arrives.
    pub copy: Option<u64>,
    /// It overtakes one that was sent before.
    pub overtakes: bool,
    /// It was held up.
    pub delayed: bool,
}

impl Network {
    /// A network with this usual weather.
    pub fn new(calm: Weather, ordered: bool) -> Self {
        Self {
            weather: calm,
            calm,
            ordered,
            cuts: Vec::new(),
            cut_next: 0,
            last_arrival: BTreeMap::new(),
        }
    }

    /// Decides about one message; cuts are asked about when it arrives.
    pub fn fate(&mut self, now: u64, from: Place, to: Place, rng: &mut Rng) -> Fate {
        let weather = self.weather;
        if rng.chance(weather.loss) {
            return Fate::default();
        }
        let mut arrival = now + rng.duration(weather.delay_min, weather.delay_max);
        let delayed = rng.chance(weather.spikes);
        if delayed {
            arrival += rng.duration(Duration::ZERO, weather.spike);
        }
        let last = self.last_arrival.entry((from, to)).or_default();
        let mut overtakes = arrival < *last;
        if overtakes && self.ordered {
            arrival = *last + 1;
            overtakes = false;
        }
        *last = arrival.max(*last);
        let duplicated = !self.ordered && rng.chance(weather.duplication);
        let copy = duplicated
            .then(|| arrival + rng.duration(Duration::ZERO, weather.delay_max + weather.spike));
        Fate {
            arrival: Some(arrival),
            copy,
            overtakes,
            delayed,
        }
    }

    /// Whether nothing gets from one place to another.
    pub fn is_cut(&self, from: Place, to: Place) -> bool {
        self.cuts.iter().any(|cut| cut.links.contains(&(from, to)))
    }

    /// Cuts links until [`Self::lift`]; returns the cut's name.
    pub fn cut(&mut self, links: impl IntoIterator<Item = (Place, Place)>) -> u64 {
        self.cut_next += 1;
        self.cuts.push(Cut {
            id: self.cut_next,
            links: links.into_iter().collect(),
        });
        self.cut_next
    }

    /// Mends a cut.
    pub fn lift(&mut self, id: u64) {
        self.cuts.retain(|cut| cut.id != id);
    }

    /// Mends all and calms the weather.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.calm_down();
    }

    /// Back to the usual weather, without the losses that are usual in this run.
    pub fn calm_down(&mut self) {
        self.weather = self.calm;
    }
}
