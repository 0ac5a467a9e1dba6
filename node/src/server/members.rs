//! Membership and leadership, as an embedded server is asked for them.

use std::time::Duration;

use kontiki_raft::{ChangeRequest, Purpose, Role, ServerId, Term};

use super::error::{Error, Result};
use super::{Kind, Server};
use crate::address_book::ServerRef;
use crate::bootstrap::ping;
use crate::driver::{Answer, ConfigurationStatus, Input, Refusal, Until};
use crate::introduce::{introduce, learn_versions};

impl Server {
    /// Adds the server whose peer port is at an address, and waits until it votes. Leader only. At
    /// once if it is a member.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use futures::executor::block_on;
    /// # use kontiki_node::{Server, ServerOptions, machine::counter::Counter};
    /// # fn main() -> Result<(), kontiki_node::Error> {
    /// # let start = |name: &str, min_majority| {
    /// #     let mut options = ServerOptions { name: name.into(), ..ServerOptions::default() };
    /// #     options.raft.min_majority = min_majority;
    /// #     Server::start(Counter::default(), options)
    /// # };
    /// # let leader = start("raft1", 1)?;
    /// # while !block_on(leader.status())?.activated {}
    /// // With a min_majority of 2 it waits to be added.
    /// let second = start("raft2", 2)?;
    /// let added = block_on(leader.add_server(&second.me().peer_address))?;
    /// assert_eq!(added.configuration.voters.len(), 2);
    /// let removed = block_on(leader.remove_server("raft2"))?;
    /// assert_eq!(removed.configuration.voters.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Refusal::NoLeader`], [`Refusal::NoCommit`],
    /// [`Refusal::UnstableConfig`], [`Refusal::UnsupportedVersion`]; [`Error::Unreachable`]. [`Error::Unknown`] if it does not vote
    /// within `limits.admin_timeout_milliseconds`: the change goes on, ask again.
    pub async fn add_server(&self, peer_address: &str) -> Result<ConfigurationStatus> {
        self.check_leads()?;
        let mut all = self.status().await?.configuration.configuration.servers();
        let asked = peer_address.to_owned();
        let answer = self.node.run(async move { ping(&asked).await }).await;
        let answer = answer.map_err(|failure| self.error(Kind::Read, failure))?;
        let book = &self.handle().book;
        let id = match answer {
            Ok(answer) => {
                let found = answer.server.clone().unwrap_or_default();
                let Ok(id) = found.server_id.parse() else {
                    return Err(unreachable(peer_address, "it does not say who it is"));
                };
                learn_versions(self.handle(), id, &answer);
                book.learn(ServerRef {
                    id,
                    name: found.node,
                    peer_address: peer_address.into(),
                    client_address: found.client_address,
                });
                id
            }
            Err(status) => {
                let mut known = book.named(peer_address).into_iter();
                match known.find(|known| all.contains(&known.id)) {
                    Some(member) => member.id,
                    None => return Err(unreachable(peer_address, status.message())),
                }
            }
        };
        // Whoever leads next must be able to reach it, and it them.
        all.insert(id);
        let all: Vec<_> = all.into_iter().map(|id| book.find(id)).collect();
        let handle = self.handle().clone();
        let introduced = self.node.run(async move { introduce(&handle, &all).await });
        introduced
            .await
            .map_err(|failure| self.error(Kind::Read, failure))?;
        self.change(ChangeRequest {
            add: vec![(id, Purpose::Join)],
            ..ChangeRequest::default()
        })
        .await
    }

    /// Removes a server, by its name, id or peer address, and waits until that is committed. Leader
    /// only. At once if it is a member no more.
    ///
    /// # Errors
    /// As [`Self::add_server`], and [`Refusal::LastServer`], [`Refusal::BelowMinMajority`];
    /// [`Error::NoSuchServer`] if nobody was ever seen by that name.
    pub async fn remove_server(&self, server: &str) -> Result<ConfigurationStatus> {
        self.check_leads()?;
        let id = match self.member(server).await {
            Err(Error::NoSuchServer(_)) => self.former(server)?,
            found => found?,
        };
        self.change(ChangeRequest {
            remove: vec![id],
            ..ChangeRequest::default()
        })
        .await
    }

    async fn change(&self, change: ChangeRequest) -> Result<ConfigurationStatus> {
        let milliseconds = self.handle().limits.admin_timeout_milliseconds;
        let wait = Duration::from_millis(milliseconds);
        let until = Until::Effective;
        let input = |reply| Input::Change {
            change,
            until,
            reply,
        };
        match self.ask(Kind::Write, wait, input).await? {
            Answer::Changed(status) => Ok(status),
            other => unreachable!("a change was asked for, not {other:?}"),
        }
    }

    /// Campaigns at once; the term afterwards. A leader campaigns anew; a no-op on a candidate.
    ///
    /// # Errors
    /// [`Refusal::NotAVoter`], [`Refusal::Quarantined`]: this server may not campaign.
    pub async fn trigger_election(&self) -> Result<Term> {
        let input = |reply| Input::TriggerElection { reply };
        match self.ask(Kind::Write, self.patience(), input).await? {
            Answer::Triggered(term) => Ok(term),
            other => unreachable!("an election was asked for, not {other:?}"),
        }
    }

    /// Hands leadership to a server, by its name, id or peer address, or to the one that is
    /// furthest. Answers once another leads.
    ///
    /// # Errors
    /// [`Refusal::TransferFailed`] if nobody took over within an election timeout;
    /// [`Refusal::NotAVoter`].
    pub async fn transfer_leadership(&self, target: Option<&str>) -> Result<ServerRef> {
        let target = match target {
            Some(name) => Some(self.member(name).await?),
            None => None,
        };
        let input = |reply| Input::Transfer { target, reply };
        match self.ask(Kind::Write, self.patience(), input).await? {
            Answer::Transferred(standing) => {
                let leader = standing.leader.unwrap_or(self.me().id);
                Ok(self.handle().book.find(leader))
            }
            other => unreachable!("a transfer was asked for, not {other:?}"),
        }
    }

    /// What a leader alone does is refused before anybody is asked for it.
    fn check_leads(&self) -> Result<()> {
        let standing = self.handle().standing();
        match (standing.role, standing.leader) {
            (Role::Leader, _) => Ok(()),
            (Role::Joiner, _) => Err(Error::Refused(Refusal::NotAMember)),
            (_, Some(leader)) => Err(Error::NotLeader {
                leader: self.handle().book.find(leader),
            }),
            (_, None) => Err(Error::Refused(Refusal::NoLeader)),
        }
    }

    /// The member that goes by a name, id or address. Incarnations of the past may share a name.
    async fn member(&self, server: &str) -> Result<ServerId> {
        let servers = self.status().await?.configuration.configuration.servers();
        let mut named = self.handle().book.named(server).into_iter();
        let found = named.find(|known| servers.contains(&known.id));
        match (found, server.parse::<ServerId>()) {
            (Some(found), _) => Ok(found.id),
            (None, Ok(id)) if servers.contains(&id) => Ok(id),
            _ => Err(Error::NoSuchServer(server.into())),
        }
    }

    /// One that was known by a name, or goes by an id.
    fn former(&self, server: &str) -> Result<ServerId> {
        let known = self.handle().book.named(server).first().map(|one| one.id);
        let id = known.or_else(|| server.parse().ok());
        id.ok_or_else(|| Error::NoSuchServer(server.into()))
    }
}

fn unreachable(address: &str, problem: &str) -> Error {
    Error::Unreachable {
        address: address.into(),
        problem: problem.into(),
    }
}
