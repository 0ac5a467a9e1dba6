//! Messages and configurations as scripts show them.

use std::time::Duration;

use kontiki_raft::{
    AppendOutcome, Configuration, EntryKind, EntryMeta, Index, LogId, Message, Purpose, ServerId,
    SnapshotOutcome,
};

fn list<'a>(servers: impl IntoIterator<Item = &'a ServerId>) -> String {
    servers
        .into_iter()
        .map(|server| server.0.to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

pub fn describe_configuration(configuration: &Configuration) -> String {
    let mut text = format!("voters[{}]", list(&configuration.voters));
    if let Some(outgoing) = &configuration.outgoing {
        text.push_str(&format!(" outgoing[{}]", list(outgoing)));
    }
    for (server, purpose) in &configuration.learners {
        let purpose = match purpose {
            Purpose::Stay => "stays".to_owned(),
            Purpose::Join => "joins".to_owned(),
            Purpose::Replace(lost) => format!("replaces {}", lost.0),
        };
        text.push_str(&format!(" learner[{} {purpose}]", server.0));
    }
    text
}

pub fn describe(from: ServerId, to: ServerId, message: &Message, entries: &[EntryMeta]) -> String {
    let text = match message {
        Message::Vote(vote) => {
            let kind = if vote.pre { "pre-vote" } else { "vote" };
            let forced = if vote.forced { ", forced" } else { "" };
            let released = match vote.released {
                Some(term) => format!(", released by the leader of term {}", term.0),
                None => String::new(),
            };
            format!(
                "{kind} for term {}, log ends {}{forced}{released}",
                vote.term.0, vote.last
            )
        }
        Message::VoteReply(reply) => {
            let kind = if reply.pre { "pre-vote" } else { "vote" };
            let answer = if reply.granted { "granted" } else { "refused" };
            format!("{kind} {answer}, term {}", reply.term.0)
        }
        Message::Append(append) => {
            let kinds: Vec<String> = entries.iter().map(describe_entry).collect();
            let LogId { term, index } = append.prev;
            format!(
                "append after {}@{} [{}] commit {}",
                index.0,
                term.0,
                kinds.join(", "),
                append.commit.0
            )
        }
        Message::AppendAck(ack) => match ack.outcome {
            AppendOutcome::Accepted(Index(index)) => format!("holds through {index}"),
            AppendOutcome::Rejected { prev, hint } => {
                format!(
                    "append after {} does not fit, at most {hint}, term {}",
                    prev.0, ack.term.0
                )
            }
        },
        Message::Heartbeat(heartbeat) => {
            let lease = heartbeat.beat.map_or(Duration::ZERO, |beat| beat.lease);
            format!(
                "heartbeat round {} commit {}{}",
                heartbeat.round,
                heartbeat.commit.0,
                promised(", promise no vote for", lease)
            )
        }
        Message::HeartbeatAck(ack) => format!(
            "heard round {}, term {}{}",
            ack.round,
            ack.term.0,
            promised(
                ", promised for",
                ack.beat.map_or(Duration::ZERO, |beat| beat.promise)
            )
        ),
        Message::ReadIndex(asked) => format!("which index for question {}?", asked.id),
        Message::ReadIndexReply(reply) => match reply.index {
            Some(index) => format!("question {}: index {}", reply.id, index.0),
            None => format!("question {}: no answer", reply.id),
        },
        Message::SnapshotChunk(chunk) => {
            format!("snapshot {} through {}", chunk.id.number, chunk.id.last)
        }
        Message::SnapshotAck(ack) => match ack.outcome {
            SnapshotOutcome::Received(_) => {
                format!("snapshot {} received, term {}", ack.id.number, ack.term.0)
            }
            SnapshotOutcome::Refused => format!("snapshot {} refused", ack.id.number),
        },
        Message::TimeoutNow(request) => format!("campaign now, log ends {}", request.last),
    };
    format!("{} -> {}: {text}", from.0, to.0)
}

fn promised(words: &str, time: Duration) -> String {
    match time.as_millis() {
        0 => String::new(),
        milliseconds => format!("{words} {milliseconds} ms"),
    }
}

fn describe_entry(entry: &EntryMeta) -> String {
    let kind = match &entry.kind {
        EntryKind::Noop => "no-op".to_owned(),
        EntryKind::Command => "command".to_owned(),
        EntryKind::Control => "control".to_owned(),
        EntryKind::Configuration(configuration) => describe_configuration(configuration),
    };
    format!("{kind} @{}", entry.term.0)
}
