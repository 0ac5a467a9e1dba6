# What a person types. `make` alone lists it.

SEEDS ?= 1000
FRESH ?= 60
TAG ?= dev
ONLY ?=
MINUTES ?= 1
TARGET ?= codecs peer client admin driver
SEED ?=

# One static release build serves images, demo, simulation and benchmark. --target keeps the flag away
# from build scripts and procedural macros, which cannot be static.
TRIPLE := $(shell rustc -vV | sed -n 's/^host: //p')
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
PROGRAMS := $(TARGET_DIR)/$(TRIPLE)/release
RELEASE := --release --locked --target $(TRIPLE)
STATIC := RUSTFLAGS="-C target-feature=+crt-static"
RUN := $(STATIC) cargo run --quiet $(RELEASE) --bin
LEAVES ?= quorum log progress membership
IMAGES := target/images/kontiki-node.tar target/images/kontiki-operator.tar \
  target/images/kontiki-bank-1.tar target/images/kontiki-bank-2.tar

.PHONY: help build demo check test process e2e sim mutants leaves fuzz bench bench-engine failover memory refill image
.NOTPARALLEL:

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | \
	  while IFS="$$(printf '\t')" read -r name text; do printf '  make %-12s  %s\n' "$$name" "$$text"; done

build: ## Build all programs, static, into target/TRIPLE/release
	$(STATIC) cargo build $(RELEASE) --workspace --bins

demo: build ## Tell ExRaft's story, then scale, crash and replace servers on this machine (90 s)
	$(RUN) demo

check: ## Formatting, lints, and all tests but those in namespaces and on Kubernetes; needs no root (5 min)
	cargo fmt --all --check
	cargo fmt --manifest-path bench/engine/Cargo.toml --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --package kontiki-tests --test kubernetes --test namespaces --locked -- -D warnings
	cargo test --workspace --locked --no-fail-fast
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

test: ## Everything that CI runs: check, build, sim, process, e2e
	@.ci/test

process: build ## Real processes under faults, in namespaces, histories checked (ONLY="NAME..." SEED=N)
	tests/namespaces/install.sh
	$(STATIC) cargo test $(RELEASE) --test namespaces -- $(if $(SEED),--seed $(SEED)) $(ONLY)

e2e: image ## The tests on a real Kubernetes (ONLY="NAME..."; on an existing one if KUBECONFIG is set)
	TAG=$(TAG) tests/kubernetes/run.sh $(IMAGES) -- $(ONLY)

sim: build ## Simulate clusters under faults: SEEDS=1000 fixed seeds, a fifth of that of each other profile, FRESH=60 s of all
	$(RUN) sim -- --seeds $(SEEDS) --fresh $(FRESH) --others $$(( $(SEEDS) / 5 ))

mutants: build ## Show that the simulation catches deliberately broken engines
	$(RUN) mutants

# A test without an end is a catch, of which cargo-mutants makes an error of its own (3), whatever was missed.
leaves: ## Change the engine's leaves one place at a time: its tests must notice (cargo-mutants)
	cargo mutants --package kontiki-raft --jobs 1 --timeout 60 --output $(TARGET_DIR) \
	  --exclude-re 'replace < with <= in Log::term' --exclude-re 'replace > with >= in Log::compact' \
	  $(LEAVES:%=--file node/raft/src/%.rs) -- --lib --tests || [ $$? = 3 ]
	@if grep . $(TARGET_DIR)/mutants.out/missed.txt; then echo "these were missed"; exit 1; fi

fuzz: ## Make inputs up that break a server: MINUTES=1 for each TARGET="codecs peer client admin driver"
	node/fuzz/run.sh "$(MINUTES)" $(TARGET)

bench: build ## Compare with etcd; writes target/bench/report.json
	$(RUN) kontiki-bench

# Not of the workspace: its rivals are built for it alone.
bench-engine: ## The engine alone beside raft-rs and openraft; writes target/bench/engine.json (4 min)
	cargo run --quiet --release --locked --manifest-path bench/engine/Cargo.toml \
	  --target-dir $(TARGET_DIR)/engine

failover: build ## Kill 20 leaders of ours and of etcd, the last part of bench alone (2 min)
	$(RUN) kontiki-bench -- failover

memory: build ## Write ten million values, and fail if a node grew since the first million (2 min)
	$(RUN) kontiki-bench -- memory

refill: build ## Refill fresh servers from a million keys; prints stall, bytes, seconds; bounds memory
	$(RUN) kontiki-bench -- refill

image: build ## Build the images localhost/kontiki-{node,operator}:dev (TAG=dev), kontiki-bank:{1,2}
	mkdir -p target/image target/image/bank target/images
	echo 'kontiki:x:65532:65532::/:/sbin/nologin' >target/image/passwd
	cp $(PROGRAMS)/kontiki-node $(PROGRAMS)/kontiki-operator target/image/
	@for name in kontiki-node kontiki-operator; do \
	  tests/kubernetes/image.sh localhost/$$name:$(TAG) . $$name target/images/$$name.tar || exit 1; \
	done
	cp examples/bank/Dockerfile $(PROGRAMS)/bank-node target/image/bank/
	@for version in 1 2; do \
	  tests/kubernetes/image.sh localhost/kontiki-bank:$$version target/image/bank "" \
	    target/images/kontiki-bank-$$version.tar BANK_VERSIONS=1-$$version || exit 1; \
	done
