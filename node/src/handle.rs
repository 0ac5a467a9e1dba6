//! How the rest of a node, and a program that embeds it, reaches the driver: inputs go in through
//! one bounded channel, answers come back where the input said.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use kontiki_raft::{ClusterId, ServerId, Time};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::address_book::AddressBook;
use crate::clock;
use crate::config::{Limits, SessionSettings};
use crate::driver::{Answer, Input, Refusal, Standing};
use crate::ending::Ending;
use crate::machine::Version;
use crate::metrics::{Face, Metrics, Reason};
use crate::refusals::Complaints;
use crate::watching::Watching;

/// What a request came to.
pub type Outcome = Result<Answer, Refusal>;

/// Where an answer goes.
#[derive(Debug)]
pub enum Reply {
    /// To the one that waits for this request alone.
    One(oneshot::Sender<Outcome>),
    /// To a stream of writes, with the id that its client gave the command. The channel holds as
    /// many as the stream may have in flight, so there is always room.
    Streamed(u64, mpsc::Sender<(u64, Outcome)>),
}

impl Reply {
    /// Whether nobody waits for the answer any more.
    pub fn is_abandoned(&self) -> bool {
        match self {
            Self::One(waiting) => waiting.is_closed(),
            Self::Streamed(_, waiting) => waiting.is_closed(),
        }
    }

    /// Answers. Whoever waited may be gone.
    pub fn send(self, outcome: Outcome) {
        match self {
            Self::One(waiting) => drop(waiting.send(outcome)),
            Self::Streamed(id, waiting) => drop(waiting.try_send((id, outcome))),
        }
    }
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Refused; all but [`Refusal::OutcomeUnknown`] mean that nothing was done.
    #[error("{0}")]
    Refused(Refusal),
    /// The node is going down; the request was not looked at.
    #[error("the node is stopping")]
    Stopping,
    /// The wait was given up; what was asked may still happen.
    #[error("no outcome within {0:?}")]
    TimedOut(Duration),
    /// The node ended while the request was with it, for this reason if it was told one: it may or
    /// may not have been done.
    #[error("the node ended before the outcome was known{}", because(.0.as_deref()))]
    Ended(Option<String>),
}

fn because(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!(": {reason}"))
}

/// A node's inside, as its services see it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Inner>);

/// What a [`Handle`] shares.
#[derive(Debug)]
pub struct Inner {
    /// This incarnation.
    pub server: ServerId,
    /// Where others are, and this one.
    pub book: AddressBook,
    /// Bounds.
    pub limits: Limits,
    /// Bounds of sessions.
    pub sessions: SessionSettings,
    /// Who watches the machine.
    pub watching: Watching,
    /// Name of the machine.
    pub machine: &'static str,
    /// Versions of it that this program runs.
    pub versions: RangeInclusive<Version>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The configuration that an embedded server was started with: names and peer addresses.
    pub initial_config: Vec<(String, String)>,
    /// Who leads; changed by the driver's loop only.
    pub standing: watch::Receiver<Standing>,
    /// The cluster, 0 before there is one; written by the loop only.
    pub cluster: AtomicU64,
    /// When the loop last turned.
    pub turned: AtomicU64,
    /// How to end it.
    pub ending: Ending,
    /// Who was complained about.
    complaints: Complaints,
    /// When the first write that no turn has taken in yet was handed in; 0 if there is none.
    handed_in: AtomicU64,
    stopping: AtomicBool,
    ready: watch::Sender<bool>,
    inputs: mpsc::Sender<Input<Reply>>,
    /// Bytes that may still be in that channel.
    room: Semaphore,
}

/// Room in the channel that is kept for peers, in inputs and in bytes: an eighth, so that clients cannot
/// shut them out.
const PEER_SHARE: usize = 8;

impl std::ops::Deref for Handle {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// What a [`Handle`] is made of.
#[derive(Debug)]
pub struct HandleParts {
    /// Where others are.
    pub book: AddressBook,
    /// Bounds.
    pub limits: Limits,
    /// Bounds of sessions.
    pub sessions: SessionSettings,
    /// Who watches the machine.
    pub watching: Watching,
    /// Name of the machine.
    pub machine: &'static str,
    /// Versions of it that this program runs.
    pub versions: RangeInclusive<Version>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Of an embedded server.
    pub initial_config: Vec<(String, String)>,
    /// Who leads.
    pub standing: watch::Receiver<Standing>,
    /// How to end it.
    pub ending: Ending,
    /// To the loop.
    pub inputs: mpsc::Sender<Input<Reply>>,
}

impl Handle {
    /// A handle on the loop at the other end of `parts.inputs`.
    pub fn new(parts: HandleParts) -> Self {
        Self(Arc::new(Inner {
            server: parts.book.me().id,
            book: parts.book,
            limits: parts.limits,
            sessions: parts.sessions,
            watching: parts.watching,
            machine: parts.machine,
            versions: parts.versions,
            metrics: parts.metrics,
            initial_config: parts.initial_config,
            standing: parts.standing,
            cluster: AtomicU64::new(0),
            turned: AtomicU64::new(clock::now().0),
            ending: parts.ending,
            complaints: Complaints::default(),
            handed_in: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            ready: watch::Sender::new(false),
            inputs: parts.inputs,
            room: Semaphore::new(parts.limits.requests_bytes_max),
        }))
    }

    /// Hands an input over without waiting.
    ///
    /// # Errors
    /// The queue is full, or the node is stopping: the input is as good as never made.
    pub fn submit(&self, input: Input<Reply>) -> Result<(), Failure> {
        if self.stopping() {
            return Err(Failure::Stopping);
        }
        self.submit_always(input)
    }

    /// As [`Self::submit`], also while the node is stopping.
    fn submit_always(&self, input: Input<Reply>) -> Result<(), Failure> {
        let max = self.limits.requests_max;
        let full = |what, max| Failure::Refused(Refusal::QueueFull { what, max });
        if self.inputs.capacity() <= max / PEER_SHARE {
            return Err(full("request queue", max));
        }
        let (bytes, bytes_max) = (self.room_for(&input), self.limits.requests_bytes_max);
        let room = self.room.available_permits();
        let permit = match self.room.try_acquire_many(bytes) {
            Ok(permit) if bytes == 0 || room > bytes_max / PEER_SHARE => permit,
            _ => return Err(full("request queue in bytes", bytes_max)),
        };
        if matches!(input, Input::Write { .. } | Input::WriteInSession { .. })
            && self.handed_in.load(Relaxed) == 0
        {
            self.handed_in.store(clock::now().0, Relaxed);
        }
        let sent = self.inputs.try_send(input).map_err(|error| match error {
            TrySendError::Full(_) => full("request queue", max),
            TrySendError::Closed(_) => Failure::Stopping,
        });
        sent.map(|()| permit.forget())
    }

    /// Hands over a message or an event of a peer; waits for room, which holds that peer back.
    /// `false`: the node has ended.
    pub async fn submit_from_peer(&self, input: Input<Reply>) -> bool {
        let permit = self.room.acquire_many(self.room_for(&input)).await;
        if let Ok(permit) = permit
            && self.inputs.send(input).await.is_ok()
        {
            permit.forget();
            return true;
        }
        false
    }

    /// Bytes of the channel that an input takes. What is larger than all of it goes alone.
    fn room_for(&self, input: &Input<Reply>) -> u32 {
        let bytes = input.bytes().min(self.limits.requests_bytes_max);
        bytes.try_into().unwrap_or(u32::MAX)
    }

    /// These inputs were taken from the channel, and are about to enter a turn; for the loop.
    pub fn taken(&self, inputs: &[Input<Reply>]) {
        let bytes = inputs.iter().map(|input| self.room_for(input) as usize);
        self.room.add_permits(bytes.sum());
    }

    /// Asks, and waits for the answer at most `wait`.
    ///
    /// # Errors
    /// See [`Failure`]; [`Failure::TimedOut`] and [`Failure::Ended`] leave the outcome open.
    pub async fn ask(
        &self,
        wait: Duration,
        input: impl FnOnce(Reply) -> Input<Reply>,
    ) -> Result<Answer, Failure> {
        let (reply, answer) = oneshot::channel();
        self.submit(input(Reply::One(reply)))?;
        self.answered(wait, answer).await
    }

    /// As [`Self::ask`], also while the node is stopping.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn ask_always(
        &self,
        wait: Duration,
        input: impl FnOnce(Reply) -> Input<Reply>,
    ) -> Result<Answer, Failure> {
        let (reply, answer) = oneshot::channel();
        self.submit_always(input(Reply::One(reply)))?;
        self.answered(wait, answer).await
    }

    /// Waits for the answer to what was submitted, at most `wait`. Whoever is with a machine that is
    /// busy on its own thread does not wait for it longer than the node lives.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn answered(
        &self,
        wait: Duration,
        answer: oneshot::Receiver<Outcome>,
    ) -> Result<Answer, Failure> {
        tokio::select! {
            biased;
            answer = answer => match answer {
                Ok(outcome) => outcome.map_err(Failure::Refused),
                Err(_) => Err(self.ended()),
            },
            () = self.ending.over() => Err(self.ended()),
            () = tokio::time::sleep(wait) => Err(Failure::TimedOut(wait)),
        }
    }

    /// Counts something that is refused at the door, and logs it once per peer and minute.
    pub fn refuse(&self, face: Face, reason: Reason, peer: IpAddr, why: &dyn std::fmt::Display) {
        self.metrics.count_refused(face, reason);
        if let Some(unsaid) = self.complaints.may_say(peer, clock::now()) {
            let (face, reason) = (face.name(), reason.name());
            tracing::warn!(%peer, face, reason, %why, unsaid, "refused");
        }
    }

    /// What whoever waited is told once the node has ended.
    pub fn ended(&self) -> Failure {
        Failure::Ended(self.ending.reason().map(str::to_owned))
    }

    /// The cluster, if there is one yet.
    pub fn cluster(&self) -> Option<ClusterId> {
        match self.cluster.load(Relaxed) {
            0 => None,
            id => Some(ClusterId(id)),
        }
    }

    /// From here on the node is not ready, and refuses requests with [`Failure::Stopping`].
    pub fn begin_stopping(&self) {
        self.stopping.store(true, Relaxed);
        self.set_ready(false);
    }

    /// Says whether the server is an activated voter that has caught up.
    pub fn set_ready(&self, ready: bool) {
        let ready = ready && !self.stopping();
        self.ready
            .send_if_modified(|was| std::mem::replace(was, ready) != ready);
    }

    /// Whether the node serves: it is an activated voter, has caught up, and is not stopping.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Whether the node is going down.
    pub fn stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// Who leads, as far as this server knows.
    pub fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    /// Waits until this server knows a leader, at most `wait`.
    ///
    /// # Errors
    /// [`Failure::TimedOut`], [`Failure::Ended`].
    pub async fn await_leader(&self, wait: Duration) -> Result<Standing, Failure> {
        let mut standing = self.standing.clone();
        let led = standing.wait_for(|standing| standing.leader.is_some());
        match tokio::time::timeout(wait, led).await {
            Ok(Ok(standing)) => Ok(*standing),
            Ok(Err(_)) => Err(self.ended()),
            Err(_) => Err(Failure::TimedOut(wait)),
        }
    }

    /// When the first write was handed in that the turn now beginning takes in; for the loop.
    pub fn take_handed_in(&self) -> Option<Time> {
        match self.handed_in.load(Relaxed) {
            0 => None,
            _ => Some(Time(self.handed_in.swap(0, Relaxed))),
        }
    }

    /// How long ago the loop last turned.
    pub fn since_turn(&self) -> Duration {
        clock::now().since(Time(self.turned.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests;
