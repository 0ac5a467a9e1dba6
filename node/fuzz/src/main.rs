//! libFuzzer around the targets of `kontiki_node::fuzz`; which one, says FUZZ_TARGET. With FUZZ_SEEDS
//! it writes the target's seeds into that folder first.

#![no_main]

use std::env;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use kontiki_node::fuzz::{TARGETS, Target, heap};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

static TARGET: OnceLock<Target> = OnceLock::new();

fn choose() -> Target {
    let name = env::var("FUZZ_TARGET").unwrap_or_default();
    let target = TARGETS.into_iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| {
        let names = TARGETS.map(|target| target.name).join(", ");
        panic!("FUZZ_TARGET={name}: it must be one of {names}")
    });
    if let Ok(folder) = env::var("FUZZ_SEEDS") {
        let folder = Path::new(&folder);
        fs::create_dir_all(folder).expect("a folder for seeds");
        for (name, bytes) in (target.seeds)() {
            fs::write(folder.join(name), bytes).expect("a seed is written");
        }
    }
    target
}

fuzz_target!(
    init: {
        TARGET.get_or_init(choose);
    },
    |data: &[u8]| {
        (TARGET.get_or_init(choose).run)(data);
    }
);
