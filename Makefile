# Every target does its own set-up on a Debian or Ubuntu that has Rust and Python 3, and says what it does.
#   LIBTORCH=<folder>    a libtorch 2.11.0 that is there already; LIBTORCH_KIND=cuda downloads the GPU set instead

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo measure networks test reference bench-train edge-test test-streams test-alerts write-budget false-alarms \
  test-home-assistant test-web soak lint fuzz doc edge-amd64 edge-arm64 edge-armhf deb test-deb test-camera test-parity bench-edge \
  count-edge test-kernels edge-figures flash test-flash

# torch-sys is built in a folder of its own, where a relative path would point elsewhere.
ifneq ($(strip $(LIBTORCH)),)
override LIBTORCH := $(abspath $(LIBTORCH))
export LIBTORCH
else
unexport LIBTORCH
endif
export LIBTORCH_KIND

CARGO_FLAGS := --release --locked
SECONDS ?= 60
MINUTES ?= 30
KILLS ?= 20
EVENTS ?= 1000
HOURS ?= 24
ARCH ?= arm64 armhf amd64

help: ## lists the targets
	@grep -hE '^[a-z0-9 -]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9 -]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup: ## installs system packages and libtorch, where they are missing
	@scripts/setup.sh packages libtorch

demo: setup ## renders a scene, trains on it, replays its test stream on the edge; DATA=<folder> takes your pictures
	@scripts/demo.sh $(if $(DATA),"$(DATA)")

measure: setup ## trains the recipes on real pictures and scores them on the edge; RECIPES="a b" for some of them
	@scripts/measure.py $(RECIPES)

test: setup ## builds everything and runs all tests
	@scripts/setup-python.sh
	@scripts/setup.sh brokers
	target/python/bin/python tests/golden/generate.py --check tests/golden/*.json
	python3 -m unittest discover scripts
	cargo build $(CARGO_FLAGS) --workspace
	cargo test $(CARGO_FLAGS) --workspace --no-fail-fast

reference: setup ## follows the trainer with the PyTorch reference, step by step
	@scripts/reference.sh agreement

bench-train: setup ## times training beside the PyTorch reference; PICTURES=<folder>, FLAGS="--network unet --size 256"
	@PICTURES="$(PICTURES)" scripts/reference.sh speed $(FLAGS)

edge-test: ## builds and tests what runs on a device, with no libtorch
	@scripts/setup.sh packages brokers
	LIBTORCH=/nonexistent cargo test $(CARGO_FLAGS) -p salad-shared -p salad-edge

test-streams: ## network cameras that are killed and come back: RTSP and HTTP servers on the loopback
	@scripts/setup.sh packages streams
	tests/streams/network.py

test-home-assistant: ## holds what Home Assistant is told against its own schemas; takes Python 3.13
	@scripts/setup.sh packages brokers
	cargo test $(CARGO_FLAGS) --workspace --test mqtt home_assistant
	@scripts/test-home-assistant.sh

test-alerts: ## kills the edge and the receivers of its alerts KILLS=20 times, and holds what came against what happened; EVENTS=1000
	@scripts/setup.sh packages brokers
	tests/alerts/nothing_lost.py --kills $(KILLS) --events $(EVENTS)

write-budget: ## what the event store writes to the disk in a day, from HOURS=24 simulated ones
	@scripts/setup.sh packages
	tests/alerts/write_budget.py --hours $(HOURS)

test-web: ## the device's page in a browser: password, live view, preview, an event called normal, axe-core, phone and desk
	@scripts/setup.sh packages browser
	@scripts/setup-browser.sh
	target/browser/bin/python tests/web/page.py

false-alarms: setup ## an hour of normal frames under changing light, and the clips' real anomalies: false and missed alarms; CLIPS="car"
	cargo build $(CARGO_FLAGS) --workspace --bin salad-trainer --bin salad-edge
	tests/alerts/false_alarms.py $(CLIPS:%=--clip %)

soak: ## runs the edge for MINUTES=30 with a camera that is killed every minute; BUNDLE=<file> takes a trained one
	@scripts/setup.sh packages
	tests/streams/soak.py --minutes $(MINUTES) $(if $(BUNDLE),--bundle "$(BUNDLE)")

edge-amd64 edge-arm64 edge-armhf: edge-%: ## builds salad-edge for devices, small and stripped
	@scripts/edge-cross.sh $*

deb: ## makes Debian packages of salad-edge under target/deb; ARCH="arm64 armhf amd64" is all of them
	@scripts/deb.sh $(ARCH)

test-deb: ## installs, upgrades and purges these packages in a Debian of their own; as root, ARCH=arm64 for one
	@scripts/test-deb.sh $(ARCH)

test-camera: setup ## from camera to alert in emulated machines with a camera that fails; ARCH=arm64 for one
	@scripts/setup.sh machines
	@scripts/deb.sh $(filter-out armhf,$(ARCH))
	cargo build $(CARGO_FLAGS) --workspace --bin salad-trainer
	@tests/camera/run.py $(filter-out armhf,$(ARCH))

test-parity: ## holds the ARM programs' scores, under emulation, against this machine's; ARCH=arm64, BUNDLE=<file>, PICTURES=<folder>
	@for arch in $(filter-out amd64,$(ARCH)); do scripts/parity.py $$arch $(BUNDLE) $(PICTURES); done

bench-edge: setup ## times the edge encoder beside onnxruntime, tract and rten, and a frame by stage; BUNDLES="name=file ..."
	@scripts/setup-python.sh
	cargo build $(CARGO_FLAGS) --workspace --bin salad-trainer --bin salad-edge --example encode --example prototypes
	cargo build $(CARGO_FLAGS) --manifest-path tests/peers/Cargo.toml --target-dir target/peers
	target/python/bin/python scripts/bench_edge.py $(BUNDLES)

count-edge: setup ## counts the edge encoder's instructions on x86-64 and 64-bit ARM, emulated; BUNDLES="name=file ..."
	@scripts/setup-python.sh
	@scripts/setup.sh counting
	cargo build $(CARGO_FLAGS) --workspace --bin salad-trainer --example encode --example verdict --example prototypes
	@scripts/edge-cross.sh arm64 encode verdict
	target/python/bin/python scripts/count_edge.py $(BUNDLES)

networks: setup ## trains the networks of the family `edge` on real pictures: AUROC against time; FLAGS="--seeds 1 bottle"
	cargo build $(CARGO_FLAGS) --workspace --bin salad-trainer --bin salad-edge --example encode
	scripts/pareto.py $(FLAGS)

test-kernels: ## holds the kernels of x86-64 and, under emulation, ARM against the plain reference, and watches their memory; FLAGS=--miri
	@scripts/test-kernels.sh $(FLAGS)

edge-figures: edge-amd64 ## sizes of the packaged programs, time to the first score, memory; BUNDLE=<file>, PICTURES=<folder>
	@scripts/edge_figures.py $(BUNDLE) $(PICTURES)

flash: ## onto a device: DEVICE=root@host, /dev/sdX or an image file (then OUT=copy.img); BUNDLE=parts.salad; CONFIG, PACKAGE
	@scripts/flash.py $(if $(wildcard $(DEVICE)),image,ssh) "$(DEVICE)" --bundle "$(BUNDLE)" \
	  $(if $(CONFIG),--config "$(CONFIG)") $(if $(PACKAGE),--package "$(PACKAGE)") $(if $(OUT),--out "$(OUT)") $(FLAGS)

test-flash: ## flashes images with a Debian arm64 root, and a device behind a real sshd; as root, a Debian
	@scripts/test-flash.py $(FLAGS)

lint: setup ## formatting, clippy, documentation, dependency rules, licences
	@scripts/setup.sh rustfmt clippy
	cargo fmt --all --check
	for crate in fuzz tests/kernels tests/peers; do cargo fmt --manifest-path $$crate/Cargo.toml --check; done
	@scripts/check-dependencies.sh
	@scripts/check-licences.sh
	cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(CARGO_FLAGS) --workspace --no-deps

fuzz: ## fuzzes the readers of bundles and pictures for SECONDS=60
	@scripts/setup.sh packages
	@scripts/fuzz.sh $(SECONDS)

doc: setup ## builds the documentation of the crates under target/doc
	cargo doc $(CARGO_FLAGS) --workspace --no-deps
