//! How fresh the answer to a read must be, and who may give it.

use std::time::Duration;

use kontiki_proto::v1::Consistency;

/// What is asked for with a read. Made from a [`Consistency`], which goes to the leader, or for a stale
/// read to the endpoints in turn; or by [`ReadMode::bounded`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadMode {
    pub(crate) consistency: Consistency,
    pub(crate) staleness_milliseconds: u32,
    pub(crate) forward: bool,
}

impl From<Consistency> for ReadMode {
    fn from(consistency: Consistency) -> Self {
        Self {
            consistency,
            staleness_milliseconds: 0,
            forward: false,
        }
    }
}

impl ReadMode {
    /// The answer reflects every write acknowledged so long before it was asked for. It is asked of the
    /// endpoints in turn, until one is fresh enough: with default timers a follower is 100 to 300 ms
    /// old, and a leader up to 100 ms. Rounded down to milliseconds, and at least one.
    pub fn bounded(staleness: Duration) -> Self {
        let milliseconds = u32::try_from(staleness.as_millis()).unwrap_or(u32::MAX);
        Self {
            consistency: Consistency::Bounded,
            staleness_milliseconds: milliseconds.max(1),
            forward: false,
        }
    }

    /// The endpoints are asked in turn, and one that cannot answer by itself asks the leader how far it
    /// must have applied, and answers then: what reading costs is spread over all servers.
    #[must_use]
    pub fn by_any_server(self) -> Self {
        Self {
            forward: true,
            ..self
        }
    }

    /// Whether any server may answer.
    pub(crate) fn is_free(self) -> bool {
        self.forward || matches!(self.consistency, Consistency::Stale | Consistency::Bounded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_answer_follows_from_what_is_asked() {
        for consistency in [Consistency::Linearizable, Consistency::Lease] {
            assert!(!ReadMode::from(consistency).is_free());
            assert!(ReadMode::from(consistency).by_any_server().is_free());
        }
        assert!(ReadMode::from(Consistency::Stale).is_free());
        let bounded = ReadMode::bounded(Duration::from_micros(1));
        assert!(bounded.is_free());
        assert_eq!(bounded.staleness_milliseconds, 1);
    }
}
