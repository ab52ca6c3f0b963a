# The same commands for people and for CI. `make` alone lists them.

SHELL := bash
.DEFAULT_GOAL := help
# A fresh rustup is not in PATH before the next login; Debian keeps servers where only root looks.
export PATH := $(HOME)/.cargo/bin:$(PATH):/usr/sbin:/sbin

CARGO ?= cargo
# Where evenly listens in `make run`: loopback only, as its origins do.
LISTEN ?= 127.0.0.1:8080
# More arguments for the loadtest program, such as ARGS="--seconds 30 --json out.json", and for the demo (ARGS=--free-ports).
ARGS ?=

.PHONY: help
help: ## This list
	@echo "make <target>:"
	@sed -nE 's/^([a-z][a-z-]*):[^#]*## (.*)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

.PHONY: run
run: cargo ## evenly in front of two small origins, blue and green: keys kill them and bring them back (LISTEN=127.0.0.1:8080)
	@echo "building evenly and its two origins: about a minute at first, then seconds"
	@$(CARGO) build --profile quick -p evenly -p try-evenly
	@exec "$${CARGO_TARGET_DIR:-target}/quick/try-evenly" --listen $(LISTEN)

.PHONY: build install clean
build: cargo ## target/release/evenly, the one file that is needed
	$(CARGO) build --release -p evenly

install: cargo ## Builds it and copies it to ~/.cargo/bin; PREFIX=/usr/local to its bin folder
	$(CARGO) install --path . --locked $(if $(PREFIX),--root $(PREFIX))

clean: cargo ## Removes what was built
	$(CARGO) clean

# Where the spells of `make demo` are: memory (each API has its own) or sqlite (both share a file).
DATABASE ?= memory

.PHONY: demo demo-tour demo-tour-record
demo: demo-programs ## A small system on loopback: DNS, two APIs, evenly and a client; DATABASE=sqlite lets the APIs share their data
	@exec "$(DEMO)" --database $(DATABASE) $(ARGS)

demo-tour: demo-programs ## A guided tour of it, 15 seconds long, each step shown and checked; ends by itself
	@exec "$(DEMO)" tour $(ARGS)

demo-tour-record: demo-programs ## The same tour, written into demo/README.md
	@exec "$(DEMO)" tour --write demo/README.md $(ARGS)

# A debug build: a release is linked as one piece (fat LTO), which a demo need not wait for.
DEMO = $${CARGO_TARGET_DIR:-target}/debug/demo

.PHONY: demo-programs
demo-programs: cargo
	@echo "building evenly and the demo's five programs: some minutes at first (SQLite), then seconds"
	@$(CARGO) build -p evenly -p evenly-demo --bins

.PHONY: test
# Installs nothing. nextest does not run the examples of the documentation; cargo test --doc does.
test: cargo ## Every test; the one that counts system calls is skipped where strace is missing, and says so
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	    $(CARGO) nextest run --workspace && $(CARGO) test --workspace --doc; \
	else \
	    $(CARGO) test --workspace; \
	fi
	@command -v strace >/dev/null || \
	    echo "SKIPPED: system calls are not counted: strace is missing (Debian: apt-get install strace)"

.PHONY: check
check: cargo ## What CI checks: formatting, lints, tests, models
	$(CARGO) fmt --all --check
	@$(MAKE) --no-print-directory lint test loom

.PHONY: fmt
fmt: cargo ## Formats the source
	$(CARGO) fmt --all

.PHONY: lint
lint: cargo ## Clippy on everything; a warning is an error
	$(CARGO) clippy --workspace --all-targets -- -D warnings

.PHONY: sim
# The variables reach it through the environment. One seed is run by one test: others beside it would drown what it tells.
sim: cargo ## The simulation alone: SEED=7 replays one seed (TRACE=1 tells it), SEEDS=1000 runs many; STEPS=, WORLD=pauses, KEEP_GOING=1
	$(CARGO) test --test simulation $(if $(SEED)$(TRACE),every_seed_keeps_the_promises) -- --nocapture

.PHONY: fuzz
fuzz: cargo ## Fuzzing: SECS=60 for all targets together; a finding ends it with 1 and says how to reproduce it
	@fuzz/run.sh $(or $(SECS),60) $(TARGETS)

# Its own folder and flags, so that nothing of the ordinary build is built again.
.PHONY: loom
loom: cargo ## Models of what threads do concurrently, in every order (loom)
	RUSTFLAGS="--cfg loom" CARGO_PROFILE_TEST_OPT_LEVEL=2 \
	    $(CARGO) test -p loom-models --target-dir target/loom --lib models

.PHONY: bench
bench: cargo ## Microbenchmarks (criterion)
	$(CARGO) bench --bench parts

.PHONY: bench-check bench-record
bench-check: cargo count-tools ## Instructions of the parts of a request against the record: 3 % more is an error
	$(CARGO) bench --bench counts -- --check

bench-record: cargo count-tools ## Writes a new record (benches/counts.toml)
	$(CARGO) bench --bench counts -- --record

.PHONY: api-check
api-check: cargo ## The API against its OpenAPI document, by schemathesis (from PyPI; skipped if it cannot be installed)
	$(CARGO) build
	tests/api-check.sh

.PHONY: deny
deny: cargo ## Licences, banned crates and sources of all dependencies (deny.toml); needs cargo-deny, not the network
	@$(CARGO) deny --version >/dev/null 2>&1 || { echo "cargo-deny is missing: cargo install cargo-deny --locked" >&2; exit 1; }
	$(CARGO) deny --offline --workspace check licenses bans sources

.PHONY: doc
doc: cargo ## The source documentation, in target/doc
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

# The runs of the loadtest program: each needs evenly as it is shipped, and real servers.
LOADTESTS := loadtest compare mixed failover posts chaos idle shares big

.PHONY: $(LOADTESTS)
loadtest: ## wrk and oha over two nginx origins: requests/s, latency, errors, CPU and system calls per request
compare: ## The same workload through evenly, HAProxy and nginx in alternating slices; ARGS="--peers all" takes all of them
mixed: ## A small GET beside downloads, uploads and new connections: how long it waits, how fast they are
failover: ## Servers are killed and come back under load: what clients notice
posts: ## POSTs on kept connections beside targets that close idle ones after 2 s: how many are lost
chaos: ## Targets killed, hung and flapping, descriptors and ports gone, pauses, slow and leaving clients: what is noticed
idle: ## Memory of 5,000 idle keep-alive connections
shares: ## Sequential requests alternate exactly
big: ## 1 GiB up and 1 GiB down with a slow reader: memory and bytes

$(LOADTESTS): load-tools load-programs
	@exec "$(LOADTEST)" $(patsubst loadtest,load,$@) $(ARGS)

# Those that need nothing else.
STORMS := costs reload-storm upgrade-storm drain-storm

.PHONY: $(STORMS)
costs: ## CPU per request with access logs, scrapes, request IDs and traces over none; ARGS="--baseline FILE" compares two builds
reload-storm: ## 1,000 reloads under keep-alive clients, tunnels and a download: what they notice (nothing), how soon each is effective; a minute
upgrade-storm: ## 50 upgrades under keep-alive and new connections, five of them with what must be refused: what clients and scrapes notice
drain-storm: ## SIGTERM with requests under way, and with clients that learn of it 10 s later: none fails

$(STORMS): load-programs
	@exec "$(LOADTEST)" $@ $(ARGS)

LOADTEST = $${CARGO_TARGET_DIR:-target}/release/loadtest

# One after the other: built together, their dependencies would have the features of both, and evenly would not be the one
# that `make build` makes, nor stay built.
.PHONY: load-programs
load-programs: cargo
	@echo "building evenly as it is shipped, and the program that drives it: some minutes at first"
	@$(CARGO) build --release -p evenly
	@$(CARGO) build --release -p loadtest

.PHONY: peers
peers: cargo ## Fetches or builds what evenly is compared with, into target/peers, and tries each (20 minutes at first)
	@echo "getting the peers: those that are in target/peers already are skipped"
	@loadtest/peers.sh target/peers
	@$(MAKE) --no-print-directory load-programs
	@exec "$(LOADTEST)" peers $(ARGS)

.PHONY: pgo
pgo: cargo ## A profile-guided build (PGO), in target/pgo/use/release
	@loadtest/pgo.sh target/pgo

.PHONY: benchmarks
benchmarks: load-tools load-programs ## Every target for speed and memory, measured beside peers: docs/benchmarks.md and its charts
	@exec "$(LOADTEST)" benchmarks --write docs $(ARGS)

# As root, what is missing is installed; otherwise whatever needs it says which line installs it.
.PHONY: load-tools count-tools
count-tools: TOOLS := valgrind
load-tools: TOOLS := nginx haproxy wrk strace
load-tools count-tools:
	@missing=; for tool in $(TOOLS); do \
	    command -v $$tool >/dev/null || missing="$$missing $$tool"; \
	done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing$$missing"; \
	    apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	fi

.PHONY: cargo
cargo:
	@command -v $(firstword $(CARGO)) >/dev/null || { \
	    echo "cargo is not installed. evenly needs Rust 1.95 or newer:"; \
	    echo; \
	    echo "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"; \
	    echo; \
	    echo "and a C compiler (Debian: apt-get install gcc libc6-dev). Then run make again."; \
	    exit 1; \
	} >&2
	@command -v cc >/dev/null || { \
	    echo "a C compiler is missing, for linking and for the demo's SQLite (Debian: apt-get install gcc libc6-dev)"; \
	    exit 1; \
	} >&2
