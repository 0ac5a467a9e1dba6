//! How fresh an answer to a get must be, and who may give it.

use std::fmt;
use std::time::Duration;

use kontiki_client::{Consistency, ReadMode};
use kontiki_tests::rng::Rng;

/// What a bounded read of the tests allows: about what a follower has by default, so that some are
/// refused.
const STALENESS: Duration = Duration::from_millis(200);

/// A way of reading that promises something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Linearizable, of the leader only.
    Leader,
    /// Linearizable, of any server, which asks the leader.
    Any,
    /// Under a lease, of the leader only. Without one, as [`Reading::Leader`].
    Lease,
    /// Under a lease, of any server.
    AnyLease,
    /// No older than [`STALENESS`], of any server.
    Bounded,
}

impl Reading {
    /// Any of them.
    pub fn draw(rng: &mut Rng) -> Self {
        let all = [
            Self::Leader,
            Self::Any,
            Self::Lease,
            Self::AnyLease,
            Self::Bounded,
        ];
        rng.pick(&all).expect("there are some")
    }

    /// As requests say it.
    pub fn consistency(self) -> Consistency {
        match self {
            Self::Leader | Self::Any => Consistency::Linearizable,
            Self::Lease | Self::AnyLease => Consistency::Lease,
            Self::Bounded => Consistency::Bounded,
        }
    }

    /// Whether a server that does not lead asks the one that does.
    pub fn forwards(self) -> bool {
        matches!(self, Self::Any | Self::AnyLease)
    }

    /// How old the answer may be, if it need not be linearizable.
    pub fn staleness(self) -> Option<Duration> {
        (self == Self::Bounded).then_some(STALENESS)
    }

    /// As requests say the staleness.
    pub fn staleness_milliseconds(self) -> u32 {
        let allowed = self.staleness().unwrap_or_default().as_millis();
        u32::try_from(allowed).expect("a short time")
    }

    /// As the client says it.
    pub fn mode(self) -> ReadMode {
        match self.staleness() {
            Some(staleness) => ReadMode::bounded(staleness),
            None if self.forwards() => ReadMode::from(self.consistency()).by_any_server(),
            None => self.consistency().into(),
        }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leader => "leader",
            Self::Any => "any",
            Self::Lease => "lease",
            Self::AnyLease => "any, lease",
            Self::Bounded => "bounded",
        })
    }
}
