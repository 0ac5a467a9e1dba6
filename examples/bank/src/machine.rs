//! The state machine: accounts, and money that only moves.
//!
//! Everything here must be deterministic, because every server applies every change: no clock, no
//! randomness, no I/O, no `HashMap` that is iterated.
//!
//! # Versions
//!
//! 1. Transfers are free.
//! 2. A transfer costs [`FEE`], which goes to the account [`FEES`].
//!
//! The same transfer leaves other balances under version 2 than under version 1, so all servers have
//! to change over at the same place in the log. They do: `version` is replicated, and it is raised
//! once every server of the cluster runs a program that knows the newer one. The branch for version 1
//! has to stay in the program as long as there are entries that were written under it.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeInclusive};

use kontiki_node::LogId;
use kontiki_node::machine::{Effects, TypedMachine, Version};
use serde::{Deserialize, Serialize};

/// What a transfer costs since version 2.
pub const FEE: u64 = 1;
/// Where fees go. Nobody can open, fill or empty this account.
pub const FEES: &str = "fees";
/// Bytes of an account's name.
pub const NAME_BYTES_MAX: usize = 64;
/// Accounts of the bank: the state lives in memory.
pub const ACCOUNTS_MAX: usize = 1_000_000;
/// Accounts of one page of [`Question::Accounts`].
pub const PAGE_MAX: usize = 1000;

/// The state.
///
/// Invariant: the balances add up to `minted`.
///
/// A clone is what a snapshot costs the machine's thread; with very many accounts, take a persistent
/// map (such as `imbl::OrdMap`) in place of this one, whose clone costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bank {
    accounts: BTreeMap<String, u64>,
    minted: u64,
    changes: u64,
    trail: u64,
}

/// What is written, as JSON: `{"transfer": {"from": "ann", "to": "bob", "amount": 5}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Opens an account with nothing in it.
    Open { account: String },
    /// Makes money. There is no other way for money to come into the bank, and none out.
    Mint { account: String, amount: u64 },
    /// Moves money.
    Transfer {
        from: String,
        to: String,
        amount: u64,
    },
}

/// What a change comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It was made.
    Done {
        /// Its number in the audit trail: 1, 2, 3 and so on.
        number: u64,
        /// What the account named first holds now.
        balance: u64,
        /// What was charged, on top of the amount.
        fee: u64,
    },
    /// Nothing was changed.
    Refused(Refusal),
}

/// Why a change is not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There is no account of that name.
    #[error("there is no account {0:?}")]
    NoAccount(String),
    /// There is one already.
    #[error("there is an account {0:?} already")]
    Exists(String),
    /// Funds are short.
    #[error("the account holds {balance}, and {needed} are needed")]
    Short {
        /// What it holds.
        balance: u64,
        /// What the transfer needs, its fee included.
        needed: u64,
    },
    /// So much money cannot be counted, or there are too many accounts.
    #[error("the bank is full")]
    Full,
}

/// What is asked, as JSON: `{"balance": {"account": "ann"}}`, or `"audit"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// What an account holds.
    Balance { account: String },
    /// What all accounts hold, added up now.
    Total,
    /// Accounts after one, in the order of their names, at most `limit` and [`PAGE_MAX`] of them.
    Accounts {
        /// Empty: from the first.
        #[serde(default)]
        after: String,
        limit: usize,
    },
    /// See [`Audit`].
    Audit,
}

/// The answer to the question of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// `None`: there is no such account.
    Balance(Option<u64>),
    /// The sum.
    Total(u64),
    /// Names and balances. Fewer than asked for: there are no more.
    Accounts(Vec<(String, u64)>),
    /// The books in short.
    Audit(Audit),
}

/// The books in short. Servers that made the same changes in the same way agree in all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Money that was ever made.
    pub minted: u64,
    /// What all accounts hold. Conservation of money: the same.
    pub held: u64,
    /// Changes that were made.
    pub changes: u64,
    /// Digest of all changes in their order, each with its place in the log and the version that it
    /// was made under: two servers that made one change in different ways never agree again.
    pub trail: u64,
}

impl Bank {
    /// What all accounts hold.
    pub fn held(&self) -> u64 {
        // No overflow: it is what was minted.
        self.accounts.values().sum()
    }

    /// The books in short.
    pub fn audit(&self) -> Audit {
        Audit {
            minted: self.minted,
            held: self.held(),
            changes: self.changes,
            trail: self.trail,
        }
    }

    /// What an account holds.
    pub fn balance(&self, account: &str) -> Option<u64> {
        self.accounts.get(account).copied()
    }

    fn existing(&self, account: &str) -> Result<u64, Refusal> {
        self.balance(account)
            .ok_or_else(|| Refusal::NoAccount(account.to_owned()))
    }

    /// Makes a change, or none: the balance of the account named first, and the fee.
    fn make(&mut self, version: Version, change: &Change) -> Result<(u64, u64), Refusal> {
        match change {
            Change::Open { account } => self.open(account).map(|()| (0, 0)),
            Change::Mint { account, amount } => self.mint(account, *amount).map(|now| (now, 0)),
            Change::Transfer { from, to, amount } => {
                let fee = if version >= 2 { FEE } else { 0 };
                self.transfer(from, to, *amount, fee).map(|now| (now, fee))
            }
        }
    }

    fn open(&mut self, account: &str) -> Result<(), Refusal> {
        if self.accounts.contains_key(account) {
            return Err(Refusal::Exists(account.to_owned()));
        }
        if self.accounts.len() >= ACCOUNTS_MAX {
            return Err(Refusal::Full);
        }
        self.accounts.insert(account.to_owned(), 0);
        Ok(())
    }

    fn mint(&mut self, account: &str, amount: u64) -> Result<u64, Refusal> {
        let balance = self.existing(account)?;
        self.minted = self.minted.checked_add(amount).ok_or(Refusal::Full)?;
        self.accounts.insert(account.to_owned(), balance + amount);
        Ok(balance + amount)
    }

    fn transfer(&mut self, from: &str, to: &str, amount: u64, fee: u64) -> Result<u64, Refusal> {
        let balance = self.existing(from)?;
        self.existing(to)?;
        // More than can be counted is more than any account holds.
        let needed = amount.checked_add(fee);
        let Some(needed) = needed.filter(|needed| *needed <= balance) else {
            let needed = amount.saturating_add(fee);
            return Err(Refusal::Short { balance, needed });
        };
        self.accounts.insert(from.to_owned(), balance - needed);
        *self.accounts.entry(to.to_owned()).or_default() += amount;
        if fee > 0 {
            *self.accounts.entry(FEES.to_owned()).or_default() += fee;
        }
        Ok(balance - needed)
    }

    /// Enters a change that was made into the audit trail.
    fn record(&mut self, version: Version, id: LogId, change: &Change) {
        self.changes += 1;
        let line = format!("{} {version} {change:?}", id.index.0);
        self.trail = line.bytes().fold(self.trail, |trail, byte| {
            (trail ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    }
}

impl TypedMachine for Bank {
    const NAME: &'static str = "bank";
    const VERSIONS: RangeInclusive<Version> = 1..=2;

    type Command = Change;
    type Reply = Reply;
    type Query = Question;
    type Answer = Answer;

    /// What no state of the bank would make right.
    fn check(_: Version, change: &Change) -> Result<(), String> {
        match change {
            Change::Open { account } => is_customer(account),
            Change::Mint { account, amount } => {
                is_customer(account)?;
                is_money(*amount)
            }
            Change::Transfer { from, to, amount } => {
                is_customer(from)?;
                is_customer(to)?;
                if from == to {
                    return Err(format!("from {from:?} to itself: name two accounts"));
                }
                is_money(*amount)
            }
        }
    }

    fn apply(&mut self, version: Version, id: LogId, change: Change, _: &mut Effects) -> Reply {
        match self.make(version, &change) {
            Ok((balance, fee)) => {
                self.record(version, id, &change);
                Reply::Done {
                    number: self.changes,
                    balance,
                    fee,
                }
            }
            Err(refusal) => Reply::Refused(refusal),
        }
    }

    fn read(&self, question: Question) -> Answer {
        match question {
            Question::Balance { account } => Answer::Balance(self.balance(&account)),
            Question::Total => Answer::Total(self.held()),
            Question::Accounts { after, limit } => {
                let from = match after.is_empty() {
                    true => Bound::Unbounded,
                    false => Bound::Excluded(after.as_str()),
                };
                let page = self.accounts.range::<str, _>((from, Bound::Unbounded));
                let page = page.take(limit.min(PAGE_MAX));
                Answer::Accounts(page.map(|(name, held)| (name.clone(), *held)).collect())
            }
            Question::Audit => Answer::Audit(self.audit()),
        }
    }

    fn size(&self) -> usize {
        // A name is on the heap; the tree takes about as much again.
        self.accounts.len() * 2 * (size_of::<(String, u64)>() + 16)
    }
}

fn is_customer(account: &str) -> Result<(), String> {
    let right = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if account.is_empty() || account.len() > NAME_BYTES_MAX || !account.chars().all(right) {
        return Err(format!(
            "the account {account:?}: a name has 1 to {NAME_BYTES_MAX} of a-z, 0-9 and -"
        ));
    }
    match account {
        FEES => Err(format!("the account {FEES:?} is the bank's own")),
        _ => Ok(()),
    }
}

fn is_money(amount: u64) -> Result<(), String> {
    match amount {
        0 => Err("an amount of 0: name at least 1".into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
