//! What a run leaves behind: a file for programs and a table for people.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::comparisons::{Comparison, TargetOf};
use crate::machine::Facts;
use crate::measure::Memory;
use crate::rounds::Round;
use crate::statistics::Better;

/// Everything that was measured; units are in the names of the fields.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Facts,
    pub systems: BTreeMap<&'static str, SystemFacts>,
    pub options: BTreeMap<&'static str, String>,
    pub comparisons: Vec<Comparison>,
    /// By load, every attempt.
    pub rounds: BTreeMap<&'static str, Vec<Round>>,
    /// From the kill of a leader to the next write, in milliseconds, by system.
    pub failovers_ms: BTreeMap<&'static str, Vec<f64>>,
}

/// One system, as it was started.
#[derive(Debug, Serialize)]
pub struct SystemFacts {
    pub version: String,
    /// Of the first server.
    pub flags: Vec<String>,
    /// Of each server, before any key was put.
    pub memory_idle: Vec<Memory>,
    /// Of each server, after all loads.
    pub memory_loaded: Vec<Memory>,
}

impl Report {
    /// As JSON, for people who look at it too.
    pub fn json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).context("encode the report")
    }

    /// Writes it to `file`, whose folder is made if need be.
    pub fn write(&self, file: &Path) -> Result<()> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let text = self.json()? + "\n";
        fs::write(file, text).with_context(|| format!("write {}", file.display()))
    }

    /// The comparisons, or without ours the rounds.
    pub fn table(&self) -> String {
        let table = if self.comparisons.is_empty() {
            self.legs()
        } else {
            self.verdicts()
        };
        let mut lines = vec![table.to_string()];
        for (name, system) in &self.systems {
            lines.push(format!(
                "{name} {} {}",
                system.version,
                system.flags.join(" ")
            ));
        }
        lines.join("\n")
    }

    fn verdicts(&self) -> Table {
        let header = [
            "what", "unit", "kontiki", "etcd", "echo", "ratio", "range", "judged", "target", "met",
        ];
        let mut table = numbers(&header, 2);
        for c in &self.comparisons {
            let name = match &c.generator_bound[..] {
                [] => c.name.clone(),
                bound => format!("{} (generator-bound: {})", c.name, bound.join(", ")),
            };
            let range = format!("{}..{}", number(c.range[0]), number(c.range[1]));
            let of = if c.target_of == TargetOf::Ours {
                c.unit
            } else {
                "x"
            };
            let sign = if c.better == Better::Higher {
                ">="
            } else {
                "<="
            };
            let target = |target| format!("{sign} {} {of}", number(target));
            table.add_row([
                name,
                c.unit.to_owned(),
                number(c.ours),
                number(c.rival),
                c.echo.map_or_else(String::new, number),
                number(c.ratio),
                range,
                format!("{} {of}", number(c.judged)),
                c.target.map_or_else(|| "-".to_owned(), target),
                verdict(c),
            ]);
        }
        table
    }

    fn legs(&self) -> Table {
        let header = [
            "load",
            "round",
            "system",
            "1/s",
            "p50 us",
            "p99 us",
            "server us",
            "switches",
            "generator",
            "others",
            "void",
        ];
        let mut table = numbers(&header, 3);
        for (load, rounds) in &self.rounds {
            for round in rounds {
                for leg in &round.legs {
                    table.add_row([
                        (*load).to_owned(),
                        format!("{}.{}", round.round, round.attempt),
                        leg.system.to_owned(),
                        number(leg.operations_per_second),
                        leg.latency_p50_us.to_string(),
                        leg.latency_p99_us.to_string(),
                        number(leg.server_cpu_us_per_operation),
                        number(leg.context_switches_per_operation),
                        number(leg.generator_cores),
                        number(leg.other_cores),
                        if round.void.is_empty() { "" } else { "void" }.to_owned(),
                    ]);
                }
            }
        }
        table
    }
}

/// A table whose columns from `first` are aligned to the right.
fn numbers(header: &[&str], first: usize) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.to_vec());
    for column in table.column_iter_mut().skip(first) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Three significant digits or all before the point.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

fn verdict(comparison: &Comparison) -> String {
    match (comparison.met, comparison.rounds_void) {
        (Some(true), _) => "met".to_owned(),
        (Some(false), _) => "NOT MET".to_owned(),
        (None, 0) => "-".to_owned(),
        (None, void) => format!("void: {void}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::comparisons::of_samples;
    use crate::machine;

    use super::*;

    fn report() -> Report {
        let samples: (&[f64], &[f64]) = (&[100.0, 3100.0], &[1000.0, 2000.0]);
        let comparison = of_samples("failover", "ms", samples, Some(3000.0), true).unwrap();
        Report {
            machine: machine::facts(),
            systems: BTreeMap::new(),
            options: BTreeMap::new(),
            comparisons: vec![comparison],
            rounds: BTreeMap::new(),
            failovers_ms: BTreeMap::new(),
        }
    }

    #[test]
    fn the_file_has_the_fields_that_others_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new").join("report.json");
        report().write(&file).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        let comparison = &json["comparisons"][0];
        for field in [
            "name",
            "unit",
            "ours",
            "rival",
            "rival_name",
            "ratio",
            "range",
            "target",
            "met",
        ] {
            assert!(!comparison[field].is_null(), "{field} in {comparison}");
        }
        assert_eq!(comparison["range"], serde_json::json!([100.0, 3100.0]));
        assert_eq!(comparison["met"], serde_json::json!(false));
    }

    #[test]
    fn the_table_shouts_what_is_not_met() {
        let table = report().table();
        assert!(
            table.contains("NOT MET") && table.contains("<= 3000 ms"),
            "{table}"
        );
    }

    #[test]
    fn numbers_have_three_digits() {
        let shown = [
            number(21_537.4),
            number(48.26),
            number(2.345),
            number(0.1234),
        ];
        assert_eq!(shown, ["21537", "48.3", "2.35", "0.123"]);
    }
}
