#!/usr/bin/env bash
# `make fuzz`: MINUTES of libFuzzer for each target, on stable Rust. What it finds worth keeping goes to
# target/fuzz/TARGET; an input that breaks something is named at the end, and belongs into
# node/fuzz/corpus/TARGET once it is mended, for `node/tests/corpus.rs` to run for ever.
# With KEEP=1 the committed corpus is replaced by the smallest one that covers as much, but for the
# inputs that are called found-*.
set -euo pipefail
cd "$(dirname "$0")/../.."
minutes=$1
shift

# libFuzzer is C++, and is built from its source.
if ! command -v c++ >/dev/null; then
  echo "make fuzz needs a C++ compiler, and installs g++."
  if [ -t 0 ] && [ -z "${CI:-}" ]; then
    read -r -p "Go on? [y/N] " answer
    [ "$answer" = y ] || exit 1
  fi
  apt-get update -q && apt-get install -y -q g++
fi

triple=$(rustc -vV | sed -n 's/^host: //p')
target_dir=${CARGO_TARGET_DIR:-$PWD/target}
work=$target_dir/fuzz
# Coverage for libFuzzer: what cargo-fuzz passes without a sanitizer, all of it stable.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
CARGO_TARGET_DIR=$work/build \
  cargo build --release --locked --target "$triple" --manifest-path node/fuzz/Cargo.toml
fuzzer=$work/build/$triple/release/kontiki-fuzz

failed=
for target in "$@"; do
  committed=node/fuzz/corpus/$target
  [ -d "$committed" ] || { echo "TARGET=$target: there is no $committed" >&2; exit 2; }
  mkdir -p "$work/$target" "$work/seeds/$target" "$work/crashes"
  echo "=== $target, $minutes min"
  if ! FUZZ_TARGET=$target FUZZ_SEEDS=$work/seeds/$target "$fuzzer" \
    -max_total_time=$((minutes * 60)) -max_len=4096 -timeout=20 -rss_limit_mb=2048 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix="$work/crashes/$target-" \
    "$work/$target" "$committed" "$work/seeds/$target"; then
    failed="$failed $target"
  fi
  if [ -n "${KEEP:-}" ]; then
    mkdir -p "$work/kept/$target"
    rm -f "$work/kept/$target"/*
    FUZZ_TARGET=$target "$fuzzer" -merge=1 -verbosity=0 -max_len=4096 \
      "$work/kept/$target" "$committed" "$work/$target"
    find "$committed" -type f ! -name 'found-*' -delete
    # Fewest first: the largest inputs cover least for what they cost.
    find "$work/kept/$target" -type f -printf '%s %p\n' | sort -n | head -n 150 |
      while read -r _ file; do cp "$file" "$committed/"; done
  fi
done
[ -z "$failed" ] || { echo "broken:$failed; inputs in $work/crashes" >&2; exit 1; }
