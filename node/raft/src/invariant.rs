//! What always holds within one server, asserted at the end of every turn, in production too: it
//! costs a few comparisons. What holds between servers is checked by the simulator.

use crate::raft::{Raft, State};

impl Raft {
    pub(crate) fn assert_invariants(&self) {
        let last = self.log.last().index;
        assert!(self.commit <= last, "the commit index is within the log");
        assert!(
            self.log.base().index <= self.commit.min(self.persisted),
            "what is compacted is committed and persistent"
        );
        assert!(
            self.persisted <= last,
            "what is persistent is within the log"
        );
        assert!(
            self.log.last().term <= self.term,
            "the log holds nothing of a later term"
        );
        match &self.state {
            State::Follower(_) => {
                assert!(
                    self.verified >= self.commit,
                    "what is committed matches the leader's"
                );
                assert!(self.verified <= last, "what is verified is within the log");
            }
            State::Leader(leader) => {
                assert_eq!(self.vote, Some(self.id), "a leader voted for itself");
                for progress in leader.progress.values() {
                    assert!(progress.matched < progress.next, "matched is before next");
                    assert!(progress.matched <= last, "what matches is within the log");
                }
            }
            State::PreCandidate(_) => {}
            State::Candidate(_) => {
                assert_eq!(self.vote, Some(self.id), "a candidate votes for itself");
            }
        }
    }
}
