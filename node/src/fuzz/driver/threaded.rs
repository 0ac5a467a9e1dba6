//! A machine that is called on a thread of its own, whatever it says.

use std::io::Read;

use kontiki_raft::{Configuration, LogId, Role};

use crate::machine::{
    Command, Effects, Place, Refused, RestoreError, StateMachine, Validator, Version, View,
};

pub(super) struct Threaded(pub(super) Box<dyn StateMachine>);

impl StateMachine for Threaded {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn place(&self) -> Place {
        Place::Thread
    }

    fn validator(&self) -> Validator {
        self.0.validator()
    }

    fn apply(
        &mut self,
        version: Version,
        batch: &[Command<'_>],
        out: &mut Effects,
    ) -> Vec<Vec<u8>> {
        self.0.apply(version, batch, out)
    }

    fn read(&self, query: &[u8]) -> Result<Vec<u8>, Refused> {
        self.0.read(query)
    }

    fn on_configuration(&mut self, id: LogId, configuration: &Configuration, out: &mut Effects) {
        self.0.on_configuration(id, configuration, out);
    }

    fn on_role(&mut self, role: Role, out: &mut Effects) {
        self.0.on_role(role, out);
    }

    fn snapshot(&self) -> Box<dyn View> {
        self.0.snapshot()
    }

    fn restore(&mut self, version: Version, reader: &mut dyn Read) -> Result<(), RestoreError> {
        self.0.restore(version, reader)
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
