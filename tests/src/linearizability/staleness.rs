//! Judges reads that may be old, but not older than they say: the answer reflects every write that was
//! acknowledged so long before the read was asked for. The server promises more, as it takes the read
//! up later than that.

use std::sync::Arc;

use super::history::{History, Moment, Operation, Outcome, Reply};

/// A read of bounded staleness that was answered.
#[derive(Clone, Debug)]
pub struct BoundedRead {
    /// Who called, for people.
    pub client: Arc<str>,
    /// When.
    pub called: Moment,
    /// So old its answer may be, in nanoseconds.
    pub allowed: Moment,
    /// The revision of the store in the answer.
    pub revision: u64,
}

/// Says which answer is too old, if one is.
///
/// # Errors
/// The read, and a write that it does not reflect, for people.
pub fn check(history: &History, reads: &[BoundedRead]) -> Result<(), String> {
    let mut writes: Vec<(Moment, &Operation)> = history
        .values()
        .flatten()
        .filter_map(|operation| match operation.outcome {
            Outcome::Replied {
                at,
                reply: Reply::Done | Reply::Deleted(_),
            } => Some((at, operation)),
            _ => None,
        })
        .collect();
    writes.sort_by_key(|(at, _)| *at);
    let mut reads: Vec<&BoundedRead> = reads.iter().collect();
    reads.sort_by_key(|read| read.called.saturating_sub(read.allowed));
    let mut writes = writes.into_iter().peekable();
    let mut newest: Option<&Operation> = None;
    for read in reads {
        let since = read.called.saturating_sub(read.allowed);
        while let Some((_, write)) = writes.next_if(|(at, _)| *at < since) {
            if newest.is_none_or(|newest| newest.revisions.store < write.revisions.store) {
                newest = Some(write);
            }
        }
        if let Some(newest) = newest.filter(|newest| newest.revisions.store > read.revision) {
            return Err(format!(
                "{} asked at {:.6} s for what is no older than {} ms, and got revision {}, without\n  \
                 {newest}",
                read.client,
                read.called as f64 / 1e9,
                read.allowed / 1_000_000,
                read.revision
            ));
        }
    }
    Ok(())
}
