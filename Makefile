# The two commands most people need are `make demo` and `make test`.
# Both install what is missing on a Debian machine, or say what to run.

CARGO ?= cargo
TEST_LOG ?= target/test.log

.PHONY: demo test test-long lint docs models release setup help

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

setup:           # what a build needs beyond rustup
	@sh cross/setup.sh

demo: setup      ## half a minute on the built-in simulated line
	@$(CARGO) run --quiet --bin elek -- demo

test: setup      ## all tests (with ../shared when it is there)
	$(CARGO) test --no-fail-fast

test-long: setup ## many more seeds and kills; about 20 minutes
	$(CARGO) test --no-fail-fast -- --include-ignored

lint: setup      ## format, clippy, documentation
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

models:          ## train the shipped models again (Python, about an hour)
	sh models/train/run.sh

release: setup   ## the binary that goes on a box
	$(CARGO) build --release
