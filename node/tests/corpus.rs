//! The inputs of the fuzz targets that are committed, run again: seeds, what fuzzers found worth
//! keeping, and what once broke something (`found-...`). `make fuzz` goes on from here; UPDATE=1 writes
//! the seeds anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kontiki_node::fuzz::{TARGETS, heap};

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

/// Inputs of one target, and bytes of one input: a corpus is to be read in seconds.
const INPUTS_MAX: usize = 400;
const INPUT_BYTES_MAX: usize = 64 << 10;

fn corpus(target: &str) -> PathBuf {
    let node = Path::new(env!("CARGO_MANIFEST_DIR"));
    node.join("fuzz/corpus").join(target)
}

fn inputs(target: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = corpus(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let files = files.map(|file| {
        let path = file.expect("it is listed").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        (name.into_owned(), fs::read(&path).expect("it is read"))
    });
    files.collect()
}

fn replay(name: &str) {
    let (kept, counted) = heap::peak_of(|| vec![1_u8; 4096]);
    assert!(counted >= kept.len(), "the heap is counted");
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.expect("a target");
    let inputs = inputs(name);
    assert!(inputs.len() <= INPUTS_MAX, "{} inputs", inputs.len());
    for (file, input) in &inputs {
        // Shown if the test fails.
        println!("node/fuzz/corpus/{name}/{file}");
        assert!(input.len() <= INPUT_BYTES_MAX, "{} bytes", input.len());
        (target.run)(input);
    }
    let seeds = (target.seeds)();
    for (seed, bytes) in &seeds {
        println!("{name}, the seed {seed}");
        (target.run)(bytes);
        if std::env::var_os("UPDATE").is_some() {
            let file = corpus(name).join(format!("seed-{seed}"));
            fs::write(file, bytes).expect("a seed is written");
        }
    }
    println!("{name}: {} inputs, {} seeds", inputs.len(), seeds.len());
}

#[test]
fn codecs() {
    replay("codecs");
}

#[test]
fn peer() {
    replay("peer");
}

#[test]
fn client() {
    replay("client");
}

#[test]
fn admin() {
    replay("admin");
}

#[test]
fn driver() {
    replay("driver");
}
