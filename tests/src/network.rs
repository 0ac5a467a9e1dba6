//! What the network does to messages: delay, loss, duplication, reordering; and to links, each of
//! which has a direction: cuts, and delay.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::rng::{Noise, Rng};

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

/// A way from one place to another.
pub type Link = (Place, Place);

/// Links through which nothing comes, or everything late.
#[derive(Clone, Debug)]
struct Trouble {
    id: u64,
    links: BTreeSet<Link>,
    /// How late; `None` for never.
    delay: Option<Duration>,
}

/// The network between places.
#[derive(Debug)]
pub struct Network {
    /// As it is.
    pub weather: Weather,
    calm: Weather,
    /// Messages of one link keep their order, as on one stream.
    ordered: bool,
    troubles: Vec<Trouble>,
    trouble_next: u64,
    last_arrival: BTreeMap<Link, u64>,
    /// One for each link.
    noises: BTreeMap<Link, Noise>,
    seed: u64,
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
    /// It took a slow link.
    pub slow: bool,
}

impl Network {
    /// A network with this usual weather, in the run of a seed.
    pub fn new(seed: u64, calm: Weather, ordered: bool) -> Self {
        Self {
            weather: calm,
            calm,
            ordered,
            troubles: Vec::new(),
            trouble_next: 0,
            last_arrival: BTreeMap::new(),
            noises: BTreeMap::new(),
            seed,
        }
    }

    /// Decides about one message; cuts are asked about when it arrives.
    pub fn fate(&mut self, now: u64, from: Place, to: Place) -> Fate {
        let weather = self.weather;
        let extra = self.delay_of((from, to));
        let mut rng = self.noise(now, (from, to));
        if rng.chance(weather.loss) {
            return Fate::default();
        }
        let mut arrival = now + rng.duration(weather.delay_min, weather.delay_max);
        arrival += rng.duration(extra / 2, extra);
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
            slow: !extra.is_zero(),
        }
    }

    /// How long the way to a place takes somebody from outside, this time.
    pub fn way_to(&mut self, now: u64, place: Place) -> u64 {
        let weather = self.weather;
        let mut rng = self.noise(now, (place, place));
        rng.duration(weather.delay_min, weather.delay_max)
    }

    fn noise(&mut self, now: u64, link: Link) -> Rng {
        let number = (link.0 as u64) << 32 | link.1 as u64;
        let noise = self.noises.entry(link);
        let noise = noise.or_insert_with(|| Noise::new(self.seed, "link", number));
        noise.at(now)
    }

    /// Whether nothing gets from one place to another.
    pub fn is_cut(&self, from: Place, to: Place) -> bool {
        let mut cuts = self
            .troubles
            .iter()
            .filter(|trouble| trouble.delay.is_none());
        cuts.any(|cut| cut.links.contains(&(from, to)))
    }

    fn delay_of(&self, link: Link) -> Duration {
        let on = self
            .troubles
            .iter()
            .filter(|trouble| trouble.links.contains(&link));
        on.filter_map(|trouble| trouble.delay).sum()
    }

    /// Cuts links until [`Self::lift`]; returns the name of the trouble.
    pub fn cut(&mut self, links: impl IntoIterator<Item = Link>) -> u64 {
        self.trouble(links, None)
    }

    /// Has messages on these links take up to so much longer, until [`Self::lift`].
    pub fn slow(&mut self, links: impl IntoIterator<Item = Link>, delay: Duration) -> u64 {
        self.trouble(links, Some(delay))
    }

    fn trouble(&mut self, links: impl IntoIterator<Item = Link>, delay: Option<Duration>) -> u64 {
        self.trouble_next += 1;
        self.troubles.push(Trouble {
            id: self.trouble_next,
            links: links.into_iter().collect(),
            delay,
        });
        self.trouble_next
    }

    /// Ends a trouble.
    pub fn lift(&mut self, id: u64) {
        self.troubles.retain(|trouble| trouble.id != id);
    }

    /// Mends all and calms the weather.
    pub fn heal(&mut self) {
        self.troubles.clear();
        self.calm_down();
    }

    /// Back to the usual weather, without the losses that are usual in this run.
    pub fn calm_down(&mut self) {
        self.weather = self.calm;
    }
}
