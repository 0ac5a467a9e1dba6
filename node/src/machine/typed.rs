//! A machine over types of one's own: commands, replies and queries are JSON on the wire, so that a
//! client in any language can write them.

use std::io::Read;
use std::ops::RangeInclusive;
use std::sync::Arc;

use kontiki_raft::{Configuration, LogId, Role};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    Command, Effects, Growth, Place, Refused, RestoreError, StateMachine, StopReason, Validator,
    Version, View,
};

/// A machine whose state is the value itself. Wrapped in [`Typed`] it is a [`StateMachine`].
///
/// What [`StateMachine`] says of determinism holds here too. The state is written out as JSON, field
/// by field: equal states must write equal bytes (a `BTreeMap` does, a `HashMap` does not), and keys
/// of maps must be strings or numbers. A field added later needs `#[serde(default)]`, since a state
/// that an earlier program wrote may be restored.
///
/// ```
/// use kontiki_node::LogId;
/// use kontiki_node::machine::{Effects, StateMachine, Typed, TypedMachine, Version};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Tally {
///     votes: std::collections::BTreeMap<String, u64>,
/// }
///
/// impl TypedMachine for Tally {
///     const NAME: &'static str = "tally";
///     type Command = String;
///     type Reply = u64;
///     type Query = String;
///     type Answer = u64;
///
///     fn apply(&mut self, _: Version, _: LogId, name: String, _: &mut Effects) -> u64 {
///         let votes = self.votes.entry(name).or_default();
///         *votes += 1;
///         *votes
///     }
///
///     fn read(&self, name: String) -> u64 {
///         self.votes.get(&name).copied().unwrap_or(0)
///     }
/// }
///
/// let machine = Typed::new(Tally::default());
/// assert_eq!(machine.read(br#""ann""#).unwrap(), b"0");
/// assert!((machine.validator())(1, b"no JSON").is_err());
/// ```
#[expect(unused_variables, reason = "the defaults look at nothing")]
pub trait TypedMachine: Clone + Serialize + DeserializeOwned + Send + 'static {
    /// Its name in status and manifests, lower case.
    const NAME: &'static str;
    /// See [`StateMachine::versions`].
    const VERSIONS: RangeInclusive<Version> = 1..=1;

    /// What is written.
    type Command: Serialize + DeserializeOwned;
    /// What a command is answered with.
    type Reply: Serialize + DeserializeOwned;
    /// What is asked.
    type Query: Serialize + DeserializeOwned;
    /// What a query is answered with.
    type Answer: Serialize + DeserializeOwned;

    /// Whether a command may be proposed while this version is in force (ExRaft's `command?`); the
    /// text says what would be right. A command that a later version brought must be refused before
    /// that version is in force: an earlier program does not know it.
    ///
    /// # Errors
    /// It may not.
    fn check(version: Version, command: &Self::Command) -> Result<(), String> {
        Ok(())
    }

    /// Whether a command may make the state larger: past the state limit only those that do not are
    /// taken. See [`StateMachine::growth`]. Default: every command may.
    fn grows(command: &Self::Command) -> bool {
        true
    }

    /// Applies a committed command.
    fn apply(
        &mut self,
        version: Version,
        id: LogId,
        command: Self::Command,
        effects: &mut Effects,
    ) -> Self::Reply;

    /// Answers a query.
    fn read(&self, query: Self::Query) -> Self::Answer;

    /// See [`StateMachine::on_configuration`].
    fn on_configuration(
        &mut self,
        id: LogId,
        configuration: &Configuration,
        effects: &mut Effects,
    ) {
    }

    /// See [`StateMachine::on_role`].
    fn on_role(&mut self, role: Role, effects: &mut Effects) {}

    /// See [`StateMachine::place`].
    fn place(&self) -> Place {
        Place::Thread
    }

    /// See [`StateMachine::size`]. Default: that of the value, without what it points to, by which the
    /// state limit bounds nothing: a machine that grows must count what it holds.
    fn size(&self) -> usize {
        size_of::<Self>()
    }

    /// See [`StateMachine::stop`].
    fn stop(&mut self, reason: &StopReason) {}
}

/// The reply to a command that is none, should it be applied all the same: `validator` refuses it on
/// whatever server leads, so no client waits for it.
const NO_REPLY: &[u8] = b"null";

/// Makes a [`StateMachine`] of a [`TypedMachine`].
#[derive(Clone, Debug)]
pub struct Typed<M> {
    machine: M,
    versions: RangeInclusive<Version>,
}

impl<M: TypedMachine + Default> Default for Typed<M> {
    fn default() -> Self {
        Self::new(M::default())
    }
}

impl<M: TypedMachine> Typed<M> {
    /// Around a machine in its initial state.
    pub fn new(machine: M) -> Self {
        let versions = M::VERSIONS;
        Self { machine, versions }
    }

    /// Offers only some of [`TypedMachine::VERSIONS`]. A newer one can so be held back until more
    /// than the roll of the program is done, such as that of its clients.
    ///
    /// # Panics
    /// There is none in `versions`, or one that the machine does not know.
    pub fn with_versions(mut self, versions: RangeInclusive<Version>) -> Self {
        let known = M::VERSIONS;
        assert!(
            !versions.is_empty()
                && known.contains(versions.start())
                && known.contains(versions.end()),
            "{} knows the versions {known:?}, not {versions:?}",
            M::NAME
        );
        self.versions = versions;
        self
    }

    /// A command as it is written.
    ///
    /// # Errors
    /// It cannot be JSON: a map in it has keys that are neither strings nor numbers.
    pub fn command(command: &M::Command) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(command)
    }

    /// The reply to a command.
    ///
    /// # Errors
    /// It is none of this machine.
    pub fn reply(reply: &[u8]) -> serde_json::Result<M::Reply> {
        serde_json::from_slice(reply)
    }

    /// A query as it is asked.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn query(query: &M::Query) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(query)
    }

    /// The answer to a query.
    ///
    /// # Errors
    /// It is none of this machine.
    pub fn answer(answer: &[u8]) -> serde_json::Result<M::Answer> {
        serde_json::from_slice(answer)
    }
}

fn check<M: TypedMachine>(version: Version, bytes: &[u8]) -> Result<M::Command, Refused> {
    let command = serde_json::from_slice(bytes)
        .map_err(|error| Refused(format!("not a command of {}: {error}", M::NAME)))?;
    M::check(version, &command).map_err(Refused)?;
    Ok(command)
}

impl<M: TypedMachine> StateMachine for Typed<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn versions(&self) -> RangeInclusive<Version> {
        self.versions.clone()
    }

    fn place(&self) -> Place {
        self.machine.place()
    }

    fn validator(&self) -> Validator {
        Arc::new(|version, bytes| check::<M>(version, bytes).map(|_| ()))
    }

    fn growth(&self) -> Growth {
        // What is no command changes nothing.
        Arc::new(|version, bytes| {
            check::<M>(version, bytes).is_ok_and(|command| M::grows(&command))
        })
    }

    fn apply(
        &mut self,
        version: Version,
        batch: &[Command<'_>],
        effects: &mut Effects,
    ) -> Vec<Vec<u8>> {
        let apply = |command: &Command<'_>| match check::<M>(version, command.bytes) {
            Ok(typed) => {
                let reply = self.machine.apply(version, command.id, typed, effects);
                serde_json::to_vec(&reply).expect("a reply is JSON")
            }
            // Refused alike by a program that knows no such command.
            Err(_) => NO_REPLY.to_vec(),
        };
        batch.iter().map(apply).collect()
    }

    fn read(&self, query: &[u8]) -> Result<Vec<u8>, Refused> {
        let query = serde_json::from_slice(query)
            .map_err(|error| Refused(format!("not a query of {}: {error}", M::NAME)))?;
        serde_json::to_vec(&self.machine.read(query))
            .map_err(|error| Refused(format!("the answer is no JSON: {error}")))
    }

    fn on_configuration(
        &mut self,
        id: LogId,
        configuration: &Configuration,
        effects: &mut Effects,
    ) {
        self.machine.on_configuration(id, configuration, effects);
    }

    fn on_role(&mut self, role: Role, effects: &mut Effects) {
        self.machine.on_role(role, effects);
    }

    /// A clone: as cheap as that of the machine. It is encoded when it is written out.
    fn snapshot(&self) -> Box<dyn View> {
        Box::new(TypedView {
            machine: self.machine.clone(),
            encoded: None,
            written: 0,
        })
    }

    fn restore(&mut self, _: Version, reader: &mut dyn Read) -> Result<(), RestoreError> {
        let restored = serde_json::from_reader(reader);
        self.machine = restored.map_err(|error| RestoreError(error.to_string()))?;
        Ok(())
    }

    fn size(&self) -> usize {
        self.machine.size()
    }

    fn stop(&mut self, reason: &StopReason) {
        self.machine.stop(reason);
    }
}

struct TypedView<M> {
    machine: M,
    encoded: Option<Vec<u8>>,
    written: usize,
}

impl<M: TypedMachine> View for TypedView<M> {
    fn write(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        let machine = &self.machine;
        let encoded = self
            .encoded
            .get_or_insert_with(|| serde_json::to_vec(machine).expect("a state is JSON"));
        let end = encoded.len().min(self.written + bytes_max.max(1));
        out.extend_from_slice(&encoded[self.written..end]);
        self.written = end;
        end < encoded.len()
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Sum {
        sum: i64,
    }

    #[derive(Serialize, Deserialize)]
    enum Change {
        Add(i64),
        /// Since version 2.
        Reset,
    }

    impl TypedMachine for Sum {
        const NAME: &'static str = "sum";
        const VERSIONS: RangeInclusive<Version> = 1..=2;
        type Command = Change;
        type Reply = i64;
        type Query = ();
        type Answer = i64;

        fn check(version: Version, command: &Change) -> Result<(), String> {
            match command {
                Change::Reset if version < 2 => Err("Reset needs version 2".into()),
                Change::Add(0) => Err("add something".into()),
                _ => Ok(()),
            }
        }

        fn apply(&mut self, _: Version, _: LogId, command: Change, _: &mut Effects) -> i64 {
            match command {
                Change::Add(amount) => self.sum += amount,
                Change::Reset => self.sum = 0,
            }
            self.sum
        }

        fn read(&self, (): ()) -> i64 {
            self.sum
        }
    }

    fn apply(machine: &mut Typed<Sum>, version: Version, bytes: &[u8]) -> Vec<u8> {
        let id = LogId::default();
        let batch = [Command { id, bytes }];
        machine
            .apply(version, &batch, &mut Effects::default())
            .remove(0)
    }

    #[test]
    fn commands_replies_and_queries_are_json() {
        let mut machine = Typed::new(Sum::default());
        let add = Typed::<Sum>::command(&Change::Add(5)).expect("JSON");
        assert_eq!(add, br#"{"Add":5}"#);
        assert_eq!(apply(&mut machine, 1, &add), b"5");
        assert_eq!(Typed::<Sum>::reply(b"5").expect("a number"), 5);
        assert_eq!(machine.read(b"null").expect("answered"), b"5");
        assert!(machine.read(b"{").is_err());
    }

    #[test]
    fn fewer_versions_may_be_offered_and_no_others() {
        let offered = |versions| {
            Typed::new(Sum::default())
                .with_versions(versions)
                .versions()
        };
        assert_eq!(Typed::<Sum>::default().versions(), 1..=2);
        assert_eq!(offered(1..=1), 1..=1);
        for wrong in [0..=1, 2..=3, RangeInclusive::new(2, 1)] {
            assert!(std::panic::catch_unwind(|| offered(wrong.clone())).is_err());
        }
    }

    #[test]
    fn what_is_refused_changes_nothing_when_it_is_applied_all_the_same() {
        let mut machine = Typed::new(Sum { sum: 3 });
        let validator = machine.validator();
        for bad in [&b"{"[..], br#"{"Add":0}"#, br#"{"Sub":1}"#, br#""Reset""#] {
            assert!(validator(1, bad).is_err());
            assert_eq!(apply(&mut machine, 1, bad), NO_REPLY);
            assert_eq!(machine.machine.sum, 3);
        }
        assert!(validator(2, br#""Reset""#).is_ok());
        assert_eq!(apply(&mut machine, 2, br#""Reset""#), b"0");
    }

    #[test]
    fn a_snapshot_is_of_its_moment_and_comes_back() {
        let mut machine = Typed::new(Sum { sum: -7 });
        let mut view = machine.snapshot();
        apply(&mut machine, 1, br#"{"Add":5}"#);
        let mut bytes = Vec::new();
        while view.write(&mut bytes, 3) {}
        machine.restore(1, &mut &bytes[..]).expect("restored");
        assert_eq!(machine.machine, Sum { sum: -7 });
        for cut in 0..bytes.len() {
            assert!(machine.restore(1, &mut &bytes[..cut]).is_err());
        }
        assert_eq!(machine.machine, Sum { sum: -7 });
    }
}
