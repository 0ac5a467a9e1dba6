//! What a run leaves behind: a file for programs and a table for people.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use kontiki_bench::machine::{self, Facts};
use serde::Serialize;

use crate::options::Options;
use crate::rounds::Comparison;

#[derive(Serialize)]
pub struct Report<'a> {
    machine: Facts,
    options: &'a Options,
    pub comparisons: Vec<Comparison>,
}

impl<'a> Report<'a> {
    pub fn new(options: &'a Options) -> Self {
        Self {
            machine: machine::facts(),
            options,
            comparisons: Vec::new(),
        }
    }

    /// Writes it to `file`, whose folder is made if need be.
    pub fn write(&self, file: &Path) -> Result<()> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let text = serde_json::to_string_pretty(self).context("encode the report")?;
        fs::write(file, text + "\n").with_context(|| format!("write {}", file.display()))
    }

    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header([
            "committed entries a second",
            "kontiki",
            "rival",
            "",
            "ratio",
            "range",
            "judged",
            "target",
            "rounds",
            "met",
        ]);
        for c in &self.comparisons {
            let met = match (c.met, c.rounds_void) {
                (Some(true), _) => "met".to_owned(),
                (Some(false), _) => "NOT MET".to_owned(),
                (None, 0) => "-".to_owned(),
                (None, void) => format!("void: {void}"),
            };
            table.add_row([
                c.name.clone(),
                format!("{:.0}", c.ours),
                c.rival_name.to_owned(),
                format!("{:.0}", c.rival),
                format!("{:.2}", c.ratio),
                format!("{:.2}..{:.2}", c.range[0], c.range[1]),
                format!("{:.2}", c.judged),
                format!(">= {:.1}", c.target),
                c.rounds_used.to_string(),
                met,
            ]);
        }
        for (n, column) in table.column_iter_mut().enumerate() {
            if n != 0 && n != 2 {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}
