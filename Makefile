# Every target does its own set-up on a Debian or Ubuntu that has Rust and Python 3, and says what it does.
#   LIBTORCH=<folder>    a libtorch 2.11.0 that is there already; LIBTORCH_KIND=cuda downloads the GPU set instead

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo measure test reference bench-train edge-test test-streams soak lint fuzz doc \
  edge-amd64 edge-arm64 edge-armhf deb test-deb test-camera test-parity bench-edge networks test-kernels edge-figures flash test-flash

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
	target/python/bin/python tests/golden/generate.py --check tests/golden/*.json
	python3 -m unittest discover scripts
	cargo build $(CARGO_FLAGS) --workspace
	cargo test $(CARGO_FLAGS) --workspace --no-fail-fast

reference: setup ## follows the trainer with the PyTorch reference, step by step
	@scripts/reference.sh agreement

bench-train: setup ## times training beside the PyTorch reference; PICTURES=<folder>, FLAGS="--network unet --size 256"
	@PICTURES="$(PICTURES)" scripts/reference.sh speed $(FLAGS)

edge-test: ## builds and tests what runs on a device, with no libtorch
	@scripts/setup.sh packages
	LIBTORCH=/nonexistent cargo test $(CARGO_FLAGS) -p salad-shared -p salad-edge

test-streams: ## network cameras that are killed and come back: RTSP and HTTP servers on the loopback
	@scripts/setup.sh packages streams
	tests/streams/network.py

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
	cargo build $(CARGO_FLAGS) -p salad-trainer
	@tests/camera/run.py $(filter-out armhf,$(ARCH))

test-parity: ## holds the ARM programs' scores, under emulation, against this machine's; ARCH=arm64, BUNDLE=<file>, PICTURES=<folder>
	@for arch in $(filter-out amd64,$(ARCH)); do scripts/parity.py $$arch $(BUNDLE) $(PICTURES); done

bench-edge: setup ## times the edge encoder beside onnxruntime and tract, in turns; BUNDLES="name=file ..."
	@scripts/setup-python.sh
	cargo build $(CARGO_FLAGS) -p salad-trainer
	cargo build $(CARGO_FLAGS) -p salad-edge --example encode
	target/python/bin/python scripts/bench_edge.py $(BUNDLES)

networks: setup ## trains the networks of the family `edge` on real pictures: AUROC against time; FLAGS="--seeds 1 bottle"
	cargo build $(CARGO_FLAGS) -p salad-trainer
	cargo build $(CARGO_FLAGS) -p salad-edge --bins --example encode
	scripts/pareto.py $(FLAGS)

test-kernels: ## holds the integer kernels of x86-64 and, under emulation, 64-bit ARM against the plain reference
	@scripts/test-kernels.sh

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
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	@scripts/check-dependencies.sh
	@scripts/check-licences.sh
	cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(CARGO_FLAGS) --workspace --no-deps

fuzz: ## fuzzes the bundle reader for SECONDS=60
	@scripts/setup.sh packages
	@scripts/fuzz.sh $(SECONDS)

doc: setup ## builds the documentation of the crates under target/doc
	cargo doc $(CARGO_FLAGS) --workspace --no-deps
