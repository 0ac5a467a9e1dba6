//! A bank whose accounts are replicated: the machine, and what its clients need.
//!
//! `src/main.rs` makes a daemon of the machine, `src/bin/bank.rs` a command of the client.

pub mod client;
pub mod history;
pub mod load;
pub mod machine;

pub use client::{BankClient, Error, Written};
pub use history::History;
pub use machine::{Answer, Audit, Bank, Change, Question, Refusal, Reply};
