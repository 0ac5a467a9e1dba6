//! What is done to a run from outside, as a list: faults, and operations of clients, each with its
//! time and with randomness of its own. A seed draws an endless list; a script names one, of which
//! things can be left out without moving anything else.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::fault::Fault;
use crate::profile::Profile;
use crate::rng::Rng;

/// Clients of a run.
pub const CLIENTS: usize = 5;
/// When the first fault may come.
const FAULTS_FROM: Duration = Duration::from_millis(500);
/// When the clients begin.
const CLIENTS_FROM: Duration = Duration::from_millis(20);
/// Between two moments at which a client acts, if it waits for nothing.
const THINKING: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(140));
const NANOS: u64 = 1_000_000_000;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A fault, if it is possible then.
    Fault(Fault),
    /// A client acts, if it waits for nothing.
    Client(usize),
}

/// Something that is done to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stimulus {
    /// When, in nanoseconds of the run.
    pub at: u64,
    /// What.
    pub deed: Deed,
    /// Of everything that is drawn for it.
    pub seed: u64,
}

impl fmt::Display for Stimulus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} ", seconds(self.at))?;
        match self.deed {
            Deed::Fault(fault) => write!(f, "fault {}", fault.name())?,
            Deed::Client(client) => write!(f, "client {client}")?,
        }
        write!(f, " seed {:016x}", self.seed)
    }
}

/// One source of stimuli: the chaos, or a client.
#[derive(Clone, Debug)]
struct Source {
    next: Stimulus,
    rng: Rng,
}

impl Source {
    fn advance(&mut self, profile: &Profile) {
        let (low, high) = match self.next.deed {
            Deed::Fault(_) => (profile.pace_min, profile.pace_max),
            Deed::Client(_) => THINKING,
        };
        self.next.at += self.rng.duration(low, high);
        if let Deed::Fault(fault) = &mut self.next.deed {
            *fault = profile.draw(&mut self.rng);
        }
        self.next.seed = self.rng.bits();
    }
}

/// What a seed does to a run: without end, and whatever happens in it.
#[derive(Clone, Debug)]
pub struct Drawn {
    profile: &'static Profile,
    sources: Vec<Source>,
}

impl Drawn {
    /// Of a seed.
    pub fn new(seed: u64, profile: &'static Profile) -> Self {
        let source = |purpose, number, from: Duration, deed| {
            let at = from.as_nanos() as u64;
            let next = Stimulus { at, deed, seed: 0 };
            let rng = Rng::stream(seed, purpose, number);
            let mut source = Source { next, rng };
            source.advance(profile);
            source
        };
        let any = Deed::Fault(profile.faults[0].0);
        let mut sources = vec![source("chaos", 0, FAULTS_FROM, any)];
        sources.extend(
            (0..CLIENTS)
                .map(|client| source("client", client as u64, CLIENTS_FROM, Deed::Client(client))),
        );
        Self { profile, sources }
    }

    fn first(&self) -> &Source {
        let earliest = self.sources.iter().min_by_key(|source| source.next.at);
        earliest.expect("there are clients")
    }

    fn take(&mut self) -> Stimulus {
        let earliest = self.sources.iter_mut().min_by_key(|source| source.next.at);
        let source = earliest.expect("there are clients");
        let stimulus = source.next;
        source.advance(self.profile);
        stimulus
    }
}

/// Where a run gets its stimuli from.
#[derive(Clone, Debug)]
pub enum Stimuli {
    /// All that its seed draws.
    Drawn(Drawn),
    /// These; after them, once everything heals, what the seed draws.
    Listed {
        /// In order of time.
        list: VecDeque<Stimulus>,
        /// From the end of the script on.
        then: Drawn,
    },
}

impl Stimuli {
    /// Of a script.
    pub fn listed(script: &Script) -> Self {
        let mut then = Drawn::new(script.run.seed, script.run.profile);
        while then.first().next.at <= script.until {
            then.take();
        }
        let list = script.stimuli.iter().copied().collect();
        Self::Listed { list, then }
    }

    /// When the next one is.
    pub fn next_at(&self) -> u64 {
        match self {
            Self::Drawn(drawn) => drawn.first().next.at,
            Self::Listed { list, then } => match list.front() {
                Some(stimulus) => stimulus.at,
                None => then.first().next.at,
            },
        }
    }

    /// The next one.
    pub fn take(&mut self) -> Stimulus {
        match self {
            Self::Drawn(drawn) => drawn.take(),
            Self::Listed { list, then } => list.pop_front().unwrap_or_else(|| then.take()),
        }
    }
}

/// What names a run, but for what is done to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// Everything is drawn from it: what is done, the settings, the timeouts, and delays.
    pub seed: u64,
    /// Of which the seed is.
    pub profile: &'static Profile,
    /// Which of many delays and pauses, for the same settings. 0 for a run that is drawn.
    pub noise: u64,
}

impl Run {
    /// A run that is drawn whole.
    pub fn drawn(seed: u64, profile: &'static Profile) -> Self {
        Self {
            seed,
            profile,
            noise: 0,
        }
    }

    /// Of delays and pauses.
    pub fn noise_seed(&self) -> u64 {
        Rng::stream(self.seed, "noise", self.noise).bits()
    }
}

/// A run, named by all that is done to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// Whose.
    pub run: Run,
    /// When faults end and everything heals, in nanoseconds of the run.
    pub until: u64,
    /// Until then, in order of time.
    pub stimuli: Vec<Stimulus>,
    /// How it ended when it was written, if it failed.
    pub ending: Option<Ending>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Hash of all that happened.
    pub hash: u64,
    /// What was violated.
    pub invariant: String,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "profile {}", self.run.profile.name)?;
        writeln!(f, "seed {}", self.run.seed)?;
        writeln!(f, "noise {}", self.run.noise)?;
        for stimulus in &self.stimuli {
            writeln!(f, "{stimulus}")?;
        }
        writeln!(f, "until {}", seconds(self.until))?;
        match &self.ending {
            Some(ending) => writeln!(f, "ends {:016x} {}", ending.hash, ending.invariant),
            None => Ok(()),
        }
    }
}

impl Script {
    /// Reads what `Display` writes. What follows a `#` is for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut seed, mut noise, mut profile) = (None, None, None);
        let (mut until, mut ending) = (None, None);
        let mut stimuli = Vec::<Stimulus>::new();
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line
                .split('#')
                .next()
                .unwrap_or("")
                .split_whitespace()
                .collect();
            let wrong = |why: &str| format!("line {}: {why}: {line:?}", number + 1);
            match words[..] {
                [] => {}
                ["seed", text] => seed = Some(text.parse().map_err(|_| wrong("not a seed"))?),
                ["noise", text] => noise = Some(text.parse().map_err(|_| wrong("not a number"))?),
                ["profile", name] => {
                    let known = Profile::named(name).ok_or_else(|| wrong("no such profile"))?;
                    profile = Some(known);
                }
                ["until", time] => {
                    until = Some(nanoseconds(time).ok_or_else(|| wrong("not a time"))?);
                }
                ["ends", hash, .., _] => {
                    let hash = u64::from_str_radix(hash, 16).map_err(|_| wrong("not a hash"))?;
                    let invariant = words[2..].join(" ");
                    ending = Some(Ending { hash, invariant });
                }
                ["at", time, kind, name, "seed", seed] => {
                    let at = nanoseconds(time).ok_or_else(|| wrong("not a time"))?;
                    if stimuli.last().is_some_and(|before| before.at > at) {
                        return Err(wrong("earlier than the line before"));
                    }
                    let deed = deed(kind, name).ok_or_else(|| wrong("nobody knows to do this"))?;
                    let seed = u64::from_str_radix(seed, 16).map_err(|_| wrong("not a seed"))?;
                    stimuli.push(Stimulus { at, deed, seed });
                }
                _ => return Err(wrong("not understood")),
            }
        }
        let missing = |what: &str| format!("the script does not say its {what}");
        let script = Self {
            run: Run {
                seed: seed.ok_or_else(|| missing("seed"))?,
                profile: profile.ok_or_else(|| missing("profile"))?,
                noise: noise.ok_or_else(|| missing("noise"))?,
            },
            until: until.ok_or_else(|| missing("end (`until`)"))?,
            stimuli,
            ending,
        };
        match script.stimuli.last() {
            Some(last) if last.at > script.until => Err("it ends before its last line".into()),
            _ => Ok(script),
        }
    }
}

fn deed(kind: &str, name: &str) -> Option<Deed> {
    match kind {
        "fault" => Fault::named(name).map(Deed::Fault),
        "client" => {
            let client = name.parse().ok().filter(|client| *client < CLIENTS)?;
            Some(Deed::Client(client))
        }
        _ => None,
    }
}

fn seconds(nanoseconds: u64) -> String {
    format!("{}.{:09}", nanoseconds / NANOS, nanoseconds % NANOS)
}

fn nanoseconds(seconds: &str) -> Option<u64> {
    let (whole, part) = seconds.split_once('.')?;
    let part = Some(part).filter(|part| part.len() == 9)?;
    let whole: u64 = whole.parse().ok()?;
    whole.checked_mul(NANOS)?.checked_add(part.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::PROFILES;

    fn script() -> Script {
        let mut drawn = Drawn::new(7, &PROFILES[0]);
        let stimuli: Vec<Stimulus> = (0..200).map(|_| drawn.take()).collect();
        let until = stimuli[199].at + 5;
        Script {
            run: Run {
                noise: 3,
                ..Run::drawn(7, &PROFILES[0])
            },
            until,
            stimuli,
            ending: Some(Ending {
                hash: 77,
                invariant: "no panic".into(),
            }),
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let script = script();
        assert!(
            script
                .stimuli
                .iter()
                .any(|one| matches!(one.deed, Deed::Fault(_)))
        );
        let text = format!("# for people\n{script}# more\n");
        assert_eq!(Script::parse(&text), Ok(script));
    }

    #[test]
    fn every_fault_has_a_name_of_its_own() {
        for (fault, name) in Fault::ALL {
            assert_eq!(Fault::named(name), Some(*fault));
            assert_eq!(fault.name(), *name);
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let text = script().to_string();
        for (from, to, says) in [
            ("seed 7", "seed x", "not a seed"),
            ("seed 7\n", "", "its seed"),
            ("noise 3", "noise -3", "not a number"),
            ("profile default", "profile none", "no such profile"),
            ("until ", "till ", "not understood"),
            ("client 1", "client 99", "nobody knows"),
            ("at 0.0", "at 9.0", "earlier"),
        ] {
            let wrong = Script::parse(&text.replacen(from, to, 1)).expect_err(from);
            assert!(wrong.contains(says), "{from}: {wrong}");
        }
    }

    #[test]
    fn a_script_goes_on_with_what_its_seed_draws_after_its_end() {
        let script = script();
        let mut whole = Stimuli::Drawn(Drawn::new(7, script.run.profile));
        let mut listed = Stimuli::listed(&script);
        for _ in 0..400 {
            assert_eq!(whole.next_at(), listed.next_at());
            assert_eq!(whole.take(), listed.take());
        }
    }
}
