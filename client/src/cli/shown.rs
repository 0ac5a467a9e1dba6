//! An answer: the same facts as a table for people and as a value for scripts.

use clap::ValueEnum;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;

use super::failure::Failure;

/// How to print an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people; columns may be added.
    Table,
    /// One JSON value; fields are added, never renamed.
    Json,
    /// The same as YAML.
    Yaml,
}

/// What a command answers with.
#[derive(Debug)]
pub struct Shown {
    value: Value,
    text: String,
    /// Exactly these bytes, whatever the output.
    raw: Option<Vec<u8>>,
    /// The answer is complete, and yet the command does not end well.
    pub verdict: Option<Failure>,
}

impl Shown {
    /// An answer in both forms; `text` without a newline at its end.
    pub fn new(value: Value, text: impl Into<String>) -> Self {
        Shown {
            value,
            text: text.into(),
            raw: None,
            verdict: None,
        }
    }

    /// Bytes as they are.
    pub fn raw(bytes: Vec<u8>) -> Self {
        Shown {
            value: Value::Null,
            text: String::new(),
            raw: Some(bytes),
            verdict: None,
        }
    }

    /// The bytes for stdout.
    pub fn render(&self, output: Output) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let text = match output {
            Output::Table if self.text.is_empty() => String::new(),
            Output::Table => format!("{}\n", self.text),
            Output::Json => format!("{:#}\n", self.value),
            Output::Yaml => serde_yaml::to_string(&self.value).expect("a JSON value is YAML"),
        };
        text.into_bytes()
    }
}

/// Rows under a header, in columns of spaces, without trailing blanks.
pub fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_aligned_columns() {
        let text = table(
            ["KEY", "VALUE"],
            vec![["a".into(), "1".into()], ["long".into(), "".into()]],
        );
        assert_eq!(text, "KEY   VALUE\na     1\nlong");
    }
}
