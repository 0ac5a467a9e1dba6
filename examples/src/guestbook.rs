//! A state machine of one's own: a guest book that everybody may add a line to.
//!
//! It shows all that a machine needs: look at a command before it is replicated, apply what is
//! committed, answer queries. It knows nothing of Raft.

use std::io::Read;
use std::sync::Arc;

use kontiki_node::machine::{
    BytesView, Command, Effects, Refused, RestoreError, StateMachine, Validator, Version, View,
};

/// The query that is answered with all lines, each followed by a line break.
pub const ALL: &[u8] = b"all";
/// Bytes of one line.
const LINE_BYTES_MAX: usize = 200;

/// Lines in the order in which they were written.
#[derive(Debug, Default)]
pub struct Guestbook {
    lines: Vec<String>,
}

impl Guestbook {
    fn all(&self) -> Vec<u8> {
        let lines = self.lines.iter();
        lines
            .flat_map(|line| [line.as_bytes(), b"\n"])
            .flatten()
            .copied()
            .collect()
    }
}

impl StateMachine for Guestbook {
    fn name(&self) -> &'static str {
        "guestbook"
    }

    fn validator(&self) -> Validator {
        Arc::new(|_, command| parse(command).map(|_| ()))
    }

    /// Each reply is the number of lines in the book.
    fn apply(&mut self, _: Version, batch: &[Command<'_>], _: &mut Effects) -> Vec<Vec<u8>> {
        let apply_one = |command: &Command<'_>| {
            // What `validate` refuses may still be here: another server may have proposed it.
            if let Ok(line) = parse(command.bytes) {
                self.lines.push(line.to_owned());
            }
            self.lines.len().to_string().into_bytes()
        };
        batch.iter().map(apply_one).collect()
    }

    fn read(&self, query: &[u8]) -> Result<Vec<u8>, Refused> {
        if query != ALL {
            let query = String::from_utf8_lossy(query);
            return Err(Refused(format!(
                "the query is {query:?}; it must be \"all\""
            )));
        }
        Ok(self.all())
    }

    /// All lines, as the query answers them: none has a line break of its own.
    fn snapshot(&self) -> Box<dyn View> {
        Box::new(BytesView::new(self.all()))
    }

    fn restore(&mut self, _: Version, reader: &mut dyn Read) -> Result<(), RestoreError> {
        let mut text = String::new();
        reader.read_to_string(&mut text)?;
        if !text.is_empty() && !text.ends_with('\n') {
            return Err(RestoreError("the last line is cut short".into()));
        }
        self.lines = text.lines().map(str::to_owned).collect();
        Ok(())
    }

    fn size(&self) -> usize {
        self.lines
            .iter()
            .map(|line| size_of::<String>() + line.len())
            .sum()
    }
}

fn parse(command: &[u8]) -> Result<&str, Refused> {
    let bytes = command.len();
    if !(1..=LINE_BYTES_MAX).contains(&bytes) {
        let text = format!("the line has {bytes} bytes; it must have 1 to {LINE_BYTES_MAX}");
        return Err(Refused(text));
    }
    match std::str::from_utf8(command) {
        Ok(line) if line.contains('\n') => Err(Refused(
            "the line has a line break; it must be one line".into(),
        )),
        Ok(line) => Ok(line),
        Err(error) => Err(Refused(format!("the line is no UTF-8: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use kontiki_node::{Index, LogId, Term};

    use super::*;

    fn command(index: u64, bytes: &[u8]) -> Command<'_> {
        let id = LogId {
            term: Term(1),
            index: Index(index),
        };
        Command { id, bytes }
    }

    fn apply(book: &mut Guestbook, batch: &[Command<'_>]) -> Vec<Vec<u8>> {
        book.apply(1, batch, &mut Effects::default())
    }

    #[test]
    fn lines_are_kept_in_the_order_of_the_log() {
        let mut book = Guestbook::default();
        let replies = apply(&mut book, &[command(3, b"hello"), command(4, b"world")]);
        assert_eq!(replies, [b"1", b"2"]);
        assert_eq!(book.read(ALL).unwrap(), b"hello\nworld\n");
    }

    #[test]
    fn what_is_no_line_is_refused_and_changes_nothing_when_it_is_applied_all_the_same() {
        let mut book = Guestbook::default();
        let long = [b'x'; LINE_BYTES_MAX + 1];
        for bad in [&b""[..], b"two\nlines", b"\xff", &long] {
            assert!(parse(bad).is_err(), "{bad:?}");
            assert_eq!(apply(&mut book, &[command(1, bad)]), [b"0"], "{bad:?}");
        }
        assert_eq!(book.read(ALL).unwrap(), b"");
        assert!(book.read(b"some").is_err());
    }
}
