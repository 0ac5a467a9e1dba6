//! A machine that tells what is asked of it, and misbehaves on demand.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

use kontiki_node::machine::{
    BytesView, Command, Effects, Place, Refused, RestoreError, StateMachine, StopReason, Validator,
    Version, View,
};
use kontiki_node::{Configuration, LogId, Role};

/// The outside of one [`Probe`].
#[derive(Clone, Default)]
pub struct Strings(Arc<Inner>);

#[derive(Default)]
struct Inner {
    events: Mutex<Vec<String>>,
    panics: AtomicBool,
    held: Mutex<bool>,
    released: Condvar,
}

impl Strings {
    /// What happened, in order.
    pub fn events(&self) -> Vec<String> {
        self.0.events.lock().expect("no panic").clone()
    }

    /// How many events begin so.
    pub fn count(&self, what: &str) -> usize {
        let events = self.events();
        events
            .iter()
            .filter(|event| event.starts_with(what))
            .count()
    }

    /// From here on the command `panic` panics.
    pub fn let_panic(&self) {
        self.0.panics.store(true, SeqCst);
    }

    /// From here on the command `block`, and the machine's end, wait for [`Self::release`].
    pub fn hold(&self) {
        *self.0.held.lock().expect("no panic") = true;
    }

    pub fn release(&self) {
        *self.0.held.lock().expect("no panic") = false;
        self.0.released.notify_all();
    }

    fn wait(&self) {
        let held = self.0.held.lock().expect("no panic");
        drop(self.0.released.wait_while(held, |held| *held));
    }

    fn tell(&self, event: String) {
        self.0.events.lock().expect("no panic").push(event);
    }
}

/// A list of the commands applied. A command's reply is how many there are.
pub struct Probe {
    commands: Vec<String>,
    strings: Strings,
    place: Place,
}

impl Probe {
    pub fn new(strings: &Strings) -> Self {
        Self {
            commands: Vec::new(),
            strings: strings.clone(),
            place: Place::Thread,
        }
    }

    pub fn inline(strings: &Strings) -> Self {
        Self {
            place: Place::Inline,
            ..Self::new(strings)
        }
    }

    fn apply_one(&mut self, command: &Command<'_>, effects: &mut Effects) -> Vec<u8> {
        let text = String::from_utf8_lossy(command.bytes).into_owned();
        let index = command.id.index.0;
        let tell = self.strings.clone();
        match text.as_str() {
            "panic" if self.strings.0.panics.load(SeqCst) => panic!("as asked"),
            "block" => {
                tell.tell("blocked".into());
                tell.wait();
            }
            "effect" => effects.push(command.id, move || {
                tell.tell(format!("effect of {index}"));
                Ok(())
            }),
            "fail" => effects.push(command.id, || Err("as asked".into())),
            "boom" => effects.push(command.id, || panic!("as asked")),
            _ => {}
        }
        self.commands.push(text);
        self.commands.len().to_string().into_bytes()
    }
}

impl StateMachine for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn place(&self) -> Place {
        self.place
    }

    fn validator(&self) -> Validator {
        Arc::new(|_, command| match command {
            b"refuse" => Err(Refused("it is no command".into())),
            b"panic in validator" => panic!("as asked"),
            _ => Ok(()),
        })
    }

    fn apply(&mut self, _: Version, batch: &[Command<'_>], effects: &mut Effects) -> Vec<Vec<u8>> {
        let replies = batch.iter();
        replies
            .map(|command| self.apply_one(command, effects))
            .collect()
    }

    fn read(&self, query: &[u8]) -> Result<Vec<u8>, Refused> {
        match query {
            b"panic" => panic!("as asked"),
            b"refuse" => Err(Refused("it is no query".into())),
            _ => Ok(self.commands.join(",").into_bytes()),
        }
    }

    fn on_configuration(
        &mut self,
        id: LogId,
        configuration: &Configuration,
        effects: &mut Effects,
    ) {
        let (tell, voters) = (self.strings.clone(), configuration.voters.len());
        tell.tell(format!("configuration of {voters}"));
        effects.push(id, move || {
            tell.tell(format!("effect of configuration of {voters}"));
            Ok(())
        });
    }

    fn on_role(&mut self, role: Role, _: &mut Effects) {
        self.strings.tell(format!("role {role:?}"));
    }

    fn snapshot(&self) -> Box<dyn View> {
        Box::new(BytesView::new(self.commands.join("\n").into_bytes()))
    }

    fn restore(&mut self, _: Version, reader: &mut dyn Read) -> Result<(), RestoreError> {
        let mut text = String::new();
        reader.read_to_string(&mut text)?;
        self.commands = text.lines().map(str::to_owned).collect();
        Ok(())
    }

    fn size(&self) -> usize {
        self.commands.iter().map(String::len).sum()
    }

    fn stop(&mut self, reason: &StopReason) {
        self.strings.tell("ending".into());
        self.strings.wait();
        self.strings.tell(format!("stop {reason:?}"));
    }
}
