//! What a machine wants done besides answering.

use std::fmt;

use kontiki_raft::LogId;

/// Something to be done outside the machine, at most once. An error is counted and logged.
pub type Effect = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// Collects the effects of a batch.
///
/// An effect of a command is run by the leader whose term the entry carries, after the command is
/// applied there; never on another server, and never again. If that leader is deposed or dies first,
/// it is not run at all. Effects are run one after the other, on a thread of their own; past 1024 that
/// wait, further ones are dropped, and counted.
///
/// ```
/// use kontiki_node::LogId;
/// use kontiki_node::machine::Effects;
///
/// // As in `apply`, of a command that is to send a mail.
/// let mut effects = Effects::default();
/// effects.push(LogId::default(), || Err("no mail server".into()));
///
/// // The server runs them afterwards.
/// let (_, effect) = effects.take().remove(0);
/// assert_eq!(effect(), Err("no mail server".into()));
/// assert!(effects.is_empty());
/// ```
#[derive(Default)]
pub struct Effects(Vec<(LogId, Effect)>);

impl Effects {
    /// `effect` follows from the entry `id`.
    pub fn push(
        &mut self,
        id: LogId,
        effect: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) {
        self.0.push((id, Box::new(effect)));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all, in order.
    pub fn take(&mut self) -> Vec<(LogId, Effect)> {
        std::mem::take(&mut self.0)
    }
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.0.iter().map(|(id, _)| id);
        f.debug_list().entries(entries).finish()
    }
}
