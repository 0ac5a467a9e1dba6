//! The daemon: one server of the bank's cluster, with the flags, configuration file and ports of
//! `kontiki-node`. `bank-node --help` lists them.

use std::ops::RangeInclusive;
use std::process::ExitCode;

use kontiki_bank::Bank;
use kontiki_node::machine::{Typed, TypedMachine, Version};

/// Versions of the logic to offer, such as 1-1; by default all that the program knows. A program of
/// yours needs no such thing. Here one program so stands for its own past: told 1-1 it is what the
/// bank was before anybody thought of fees.
const VERSIONS: &str = "BANK_VERSIONS";

fn main() -> ExitCode {
    kontiki_node::main(|_| {
        let bank = Typed::new(Bank::default());
        match std::env::var(VERSIONS) {
            Ok(text) => Ok(Box::new(bank.with_versions(parse(&text)?))),
            Err(_) => Ok(Box::new(bank)),
        }
    })
}

fn parse(text: &str) -> Result<RangeInclusive<Version>, String> {
    let known = Bank::VERSIONS;
    let parsed = text.split_once('-').and_then(|(first, last)| {
        let range = first.parse().ok()?..=last.parse().ok()?;
        let holds = known.contains(range.start()) && known.contains(range.end());
        (holds && !range.is_empty()).then_some(range)
    });
    let (first, last) = known.into_inner();
    parsed.ok_or_else(|| format!("{VERSIONS} is {text:?}, must be such as {first}-{last}"))
}
