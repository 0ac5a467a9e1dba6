//! The node daemon with one of the machines that are shipped.

use std::process::ExitCode;

fn main() -> ExitCode {
    kontiki_node::main_shipped()
}
