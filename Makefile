# The two commands most people need are `make demo` and `make test`.
# Both install what is missing on a Debian machine, or say what to run.

CARGO ?= cargo

CHECKED := --release --config tests/checked.toml

.PHONY: help setup setup-arm demo test test-kill test-long test-realtime test-vm test-vm-arm test-vm-arm-short test-arm test-arm-kernels test-arm-full test-deb zoo zoo-small lint models release arm64 armv7 deb

help:            ## this list
	@grep -hE '^[a-z0-9-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 20

setup:           # what a build needs beyond rustup
	@sh cross/setup.sh

setup-arm:       # the same where Rust can come from Debian's packages
	@sh cross/setup.sh no-rust

demo: setup      ## half a minute on the built-in simulated line
	@$(CARGO) run --release --quiet --bin elek -- demo

test: setup      ## all tests (with ../shared when it is there)
	$(CARGO) test $(CHECKED) --no-fail-fast

test-kill: setup ## 200 kills (-9) of a running station at random instants; about five minutes
	ELEK_RUN_KILLS=$${ELEK_RUN_KILLS:-200} $(CARGO) test $(CHECKED) --test run_kill -- --nocapture

test-long: setup ## 20,000 simulated shifts, 2,000 kills, 50,000 random graphs; about half an hour
	$(CARGO) run $(CHECKED) --quiet --bin elek -- simulate --seeds 20000 --traces target/traces
	ELEK_KILLS=2000 $(CARGO) test $(CHECKED) --test record_kill
	ELEK_GRAPHS=50000 $(CARGO) test $(CHECKED) --test int8_random -- --nocapture

test-realtime: setup ## as root: a core with real-time priority and senders that it interrupts
	$(CARGO) test $(CHECKED) --lib -- --ignored queue::

test-vm: setup   ## the release binary against kernel drivers, in a virtual machine; some minutes
	CARGO="$(CARGO)" cross/vm/test.sh
	@ELEK_VM_KERNEL=6.12 cross/vm/test.sh vm_lines

test-vm-arm: setup ## the same and the arm64 package, by docs/INSTALL.md, on an emulated board; docs/VM.md
	CARGO="$(CARGO)" ELEK_VM_ARCH=arm64 cross/vm/test.sh $(TESTS)

test-vm-arm-short: setup ## the station alone on that board, compiled as for test-arm; some minutes
	CARGO="$(CARGO)" ELEK_VM_ARCH=arm64 ELEK_VM_PROFILE=emulated cross/vm/test.sh vm_station

test-arm: setup  ## the tests that depend on the processor, on emulated ARM cores; docs/ARM.md
	CARGO="$(CARGO)" cross/arm/test.sh

test-arm-kernels: ## the integer kernels alone on emulated ARM cores; a few minutes
	cross/arm/test.sh kernels

test-arm-full: setup ## the whole suite on each emulated ARM core; an hour or more
	CARGO="$(CARGO)" cross/arm/test.sh full

test-deb:        ## installs, upgrades, removes and purges what make deb made, in a chroot, as root
	cross/deb/test.sh amd64 arm64 armhf

zoo-small:       ## makes tests/golden/nets again, networks at a quarter of the width (Python with models/zoo/requirements.txt)
	python3 models/zoo/nets.py tests/golden/nets --width 0.25 --size 64
	$(CARGO) test $(CHECKED) --test int8_nets -- --nocapture

zoo:             ## the networks at full width and size against ONNX Runtime; models/zoo/zoo.log
	python3 models/zoo/nets.py target/zoo
	ELEK_ZOO=$(CURDIR)/target/zoo $(CARGO) test $(CHECKED) --test int8_nets -- --nocapture

lint: setup      ## format, clippy, documentation
	$(CARGO) fmt --check
	$(CARGO) clippy $(CHECKED) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(CHECKED) --no-deps

models:          ## train the shipped models again (Python, about an hour)
	sh models/train/run.sh

release: setup   ## the binary that goes on a box
	$(CARGO) build --release

arm64: setup-arm ## the same for 64-bit ARM boxes, on a Debian machine
	CARGO="$(CARGO)" cross/arm/build.sh arm64

armv7: setup-arm ## the same for 32-bit ARM boxes
	CARGO="$(CARGO)" cross/arm/build.sh armv7

deb: setup-arm   ## Debian packages for amd64, arm64 and armhf, into target/deb
	CARGO="$(CARGO)" cross/deb/build.sh amd64 arm64 armhf
