# The short way to everything. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .build/venv
REQUIREMENTS := tests/requirements
# The newest and the oldest ansible-core that the README names as supported.
NEWEST := 2.19
OLDEST := 2.14

.PHONY: help
help: ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: build
build: ## the modules as static binaries, in library/
	@cargo xtask build
	@scripts/collections

.PHONY: gen
gen: ## the generated documentation
	@cargo xtask gen

.PHONY: demo
demo: build ## deploy, replace and roll back a sample application below .build/demo
	@scripts/venv $(VENV) $(REQUIREMENTS)/demo.txt
	@scripts/demo

.PHONY: test
test: lint test-rust test-playbooks ## everything that can be tested on one machine

.PHONY: test-rust
test-rust: ## unit tests, property tests, and each module's binary
	cargo test --workspace --locked --quiet

.PHONY: test-playbooks
test-playbooks: build ## the roles on localhost and over SSH, with the newest and the oldest ansible-core
	@# What does not depend on Ansible's version, and the deploy that is killed at each task, only once.
	@for version in $(NEWEST) $(OLDEST); do \
	    scripts/venv .build/test-$$version $(REQUIREMENTS)/test-$$version.txt && \
	    .build/test-$$version/bin/python -m pytest -q tests/playbooks \
	        $$(test $$version = $(NEWEST) || echo --ignore=tests/playbooks/test_magento_kill.py) \
	        --ansible=$$PWD/.build/test-$$version/bin/ansible-playbook || exit 1; \
	done
	@.build/test-$(NEWEST)/bin/python -m pytest -q tests/shop tests/downtime tests/bench

.PHONY: lint
lint: build ## formatting, lints, generated files, static binaries and their sizes
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked --quiet
	cargo xtask gen --check
	cargo xtask sizes
	@scripts/venv .build/lint $(REQUIREMENTS)/lint.txt
	@python3 scripts/crates
	@scripts/lint

.PHONY: fuzz
fuzz: ## what comes from others, mutated, into what reads it: 20 s a target (ARGS='--seconds 3600')
	@scripts/fuzz $(ARGS)

.PHONY: downtime
downtime: build ## failed requests and outage of deploys, ours and the seed's: half an hour (ARGS=--help)
	@scripts/venv $(VENV) $(REQUIREMENTS)/demo.txt
	@PYTHONPATH=tests PYTHONDONTWRITEBYTECODE=1 $(VENV)/bin/python -m downtime $(ARGS)

.PHONY: bench
bench: build ## ours against Python modules, unarchive, tar, cp, upstream: 40 minutes (ARGS=--help)
	@scripts/venv .build/bench/venv tests/bench/requirements.txt
	@PYTHONPATH=tests PYTHONDONTWRITEBYTECODE=1 .build/bench/venv/bin/python -m bench $(ARGS)

.PHONY: crash
crash: build ## modules killed, failing, raced and loaded, on the built ones: half an hour (ARGS=--help)
	@cargo run --release --quiet --locked -p oxistrano-crash -- --modules library $(ARGS)

.PHONY: molecule
molecule: build ## the roles on hosts in containers, all scenarios (SCENARIO=default: one), about 20 minutes
	@scripts/molecule $(if $(SCENARIO),test -s $(SCENARIO)) $(ARGS)

.PHONY: collection
collection: build ## the archive for ansible-galaxy collection install
	@scripts/venv $(VENV) $(REQUIREMENTS)/demo.txt
	@$(VENV)/bin/ansible-galaxy collection build --force --output-path .build

.PHONY: clean
clean: ## remove what was built
	@# Molecule's hosts, if some are still there, have their files mounted from below .build.
	@[ ! -d .build/molecule/podman ] || OXISTRANO_ENGINE=podman scripts/molecule-engine rm --force --all >/dev/null
	rm -rf target .build
	find library -type f ! -name '*.yml' -delete
