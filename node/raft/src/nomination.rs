//! What a server does that the leader tells to campaign (thesis section 3.10): it asks first, by marked
//! pre-votes, whether a quorum would elect it, and follows the leader meanwhile.
//!
//! The thesis lets it campaign at once. Then a target that reaches the leader and no quorum deposes the
//! leader and wins nothing, and because the count of failed handovers ends with the leader's term, the
//! next leader tries it again as soon: with priorities set, for ever. The question costs one round trip.

use std::collections::BTreeSet;

use crate::election::Cause;
use crate::message::{Message, Vote};
use crate::raft::{Raft, State};
use crate::types::{ServerId, Time};

/// The answers to the pre-votes of a server that was told to campaign.
#[derive(Clone, Debug)]
pub(crate) struct Nomination {
    /// Voters that would elect it, itself included.
    granted: BTreeSet<ServerId>,
    /// Answers that come later are ignored: by then the leader has given up the transfer.
    until: Time,
    /// When the last order to campaign was sent, by the leader's clock.
    sent: Time,
}

impl Raft {
    /// The leader of this term told this server to campaign. Asked again, it repeats the question to
    /// those that have not granted it: messages may get lost.
    pub(crate) fn on_nominated(&mut self, now: Time, sent: Time) {
        let until = now + self.config.election_timeout_min;
        let State::Follower(follower) = &mut self.state else {
            return;
        };
        let before = follower.nomination.take().filter(|it| now < it.until);
        let granted = before.map_or_else(|| BTreeSet::from([self.id]), |it| it.granted);
        let vote = Vote {
            term: self.term.next(),
            last: self.log.last(),
            pre: true,
            forced: true,
            released: Some(self.term),
        };
        follower.nomination = Some(Nomination {
            granted: granted.clone(),
            until,
            sent,
        });
        for voter in self.other_voters() {
            if !granted.contains(&voter) {
                self.send(voter, Message::Vote(vote));
            }
        }
        self.count_nomination(now);
    }

    /// A voter would elect this server in the next term.
    pub(crate) fn on_nomination_granted(&mut self, now: Time, from: ServerId) {
        if let State::Follower(follower) = &mut self.state
            && let Some(nomination) = &mut follower.nomination
            && now < nomination.until
        {
            nomination.granted.insert(from);
            self.count_nomination(now);
        }
    }

    /// This server promises the leader its vote, in answer to a question that was sent then: an order to
    /// campaign from before is void, also one that is still on its way.
    pub(crate) fn dismiss(&mut self, sent: Time) {
        let before = self.dismissed.filter(|(term, _)| *term == self.term);
        let sent = before.map_or(sent, |(_, before)| before.max(sent));
        self.dismissed = Some((self.term, sent));
        if let State::Follower(follower) = &mut self.state {
            follower.nomination.take_if(|it| it.sent < sent);
        }
    }

    pub(crate) fn is_dismissed(&self, sent: Time) -> bool {
        self.dismissed
            .is_some_and(|(term, until)| term == self.term && sent < until)
    }

    fn count_nomination(&mut self, now: Time) {
        let State::Follower(follower) = &self.state else {
            return;
        };
        let Some(nomination) = &follower.nomination else {
            return;
        };
        let granted = &nomination.granted;
        if self.quorum().reached(|voter| granted.contains(&voter)) {
            self.campaign(now, Cause::Released(self.term));
        }
    }
}
