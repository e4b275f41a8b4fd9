# The commands of the project. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .build/venv
REQUIREMENTS := tests/requirements
# Those of ansible-core that `make sanity` takes.
VERSIONS = 2.19 newest
ARCHIVE = oxistrano-deploy-$(shell sed -n 's/^version: //p' galaxy.yml).tar.gz
.PHONY: help
help: ## list the commands
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: build
build: ## build the program that holds the modules, static
	@cargo xtask build
	@scripts/collections

.PHONY: build-all
build-all: ## build them for aarch64 as well, by tools of Debian that are unpacked below .build
	@cargo xtask build --all
	@scripts/collections

.PHONY: gen
gen: ## write the generated documentation
	@cargo xtask gen

.PHONY: docs
docs: ## check every link of the documentation, and make it a site in .build/site
	@scripts/venv .build/docs $(REQUIREMENTS)/docs.txt
	@NO_MKDOCS_2_WARNING=1 .build/docs/bin/mkdocs build --quiet

.PHONY: demo
demo: ## deploy, replace and roll back a sample application below .build/demo
	@echo "make demo: builds the modules (the first time some minutes), then below .build/demo deploys a sample application," \
		"replaces it while visitors ask for it, and rolls back. No root, database or PHP is needed."
	@# What is missing is said before the build, which takes minutes.
	@for tool in cargo cc; do command -v $$tool >/dev/null || \
		{ echo "make demo builds the modules and needs Rust with a C compiler: $$tool is missing" >&2; exit 1; }; done
	@scripts/venv $(VENV) $(REQUIREMENTS)/demo.txt
	@$(MAKE) --no-print-directory build
	@scripts/demo

.PHONY: test
test: lint test-rust test-playbooks ## test everything that can be tested on one machine

.PHONY: test-rust
test-rust: ## run unit tests, property tests, and the tests of each module's binary
	@scripts/test-rust

.PHONY: test-playbooks
test-playbooks: build ## test the roles on localhost and over SSH, with the newest and the oldest ansible-core
	@scripts/playbooks newest oldest
	@scripts/venv .build/test-unit $(REQUIREMENTS)/unit.txt
	@.build/test-unit/bin/python -m pytest -q -n 2 tests/shop tests/downtime tests/bench

.PHONY: test-matrix
test-matrix: build ## test the roles with each supported ansible-core, 2.14 to 2.22: an hour and a half
	@scripts/playbooks all

# Where system calls and structures of the kernel are. The decoders in C are in the deploys.
ARM64_CRATES := oxistrano-core oxistrano-tree oxistrano-releases
# Under the emulator, the kernel takes that for the program of the process.
ARM64_SKIP := process::tests::this_process_is_who_it_is

.PHONY: prepare-arm64
prepare-arm64: ## compile what test-arm64 tests
	@cargo xtask build --compile
	@cargo xtask cross test --locked --quiet --lib --no-run $(ARM64_CRATES:%=-p %)

.PHONY: test-arm64
test-arm64: build-all ## test on aarch64, emulated: unit tests, and deploys to such a host over SSH (as root)
	@scripts/arm64
	cargo xtask cross test --locked --quiet --lib $(ARM64_CRATES:%=-p %) -- $(ARM64_SKIP:%=--skip %)
	@# Where it cannot run, it says why, and fails.
	@OXISTRANO_ARM64=1 scripts/playbooks newest -- tests/playbooks/test_arm64.py

.PHONY: coverage
coverage: ## which lines of the crates and the plugins the tests run: pages in .build/coverage (ARGS="rust -- -p release_link")
	@scripts/coverage $(ARGS)

.PHONY: test-long
test-long: ## test what CI has only a sample of: every point of each sweep, every planted fault: hours
	@scripts/test-long $(ARGS)

.PHONY: faults
faults: ## plant each fault of tests/faults into a copy, and see that a test notices it: an hour (ARGS=--help)
	@python3 tests/faults/plant.py $(ARGS)

.PHONY: lint-quick
lint-quick: ## check what needs no building: formatting, YAML
	cargo fmt --all --check
	@scripts/venv .build/lint $(REQUIREMENTS)/lint.txt
	@scripts/lint --quick

.PHONY: lint
lint: lint-quick lint-rust lint-built docs ## check formatting, lints, generated files, and that the binaries are static and small

# What the compiler says; of a tree that is as it was, from its cache.
.PHONY: lint-rust
lint-rust:
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings -A clippy::disallowed_methods
	@# clippy.toml is for what is shipped.
	cargo clippy --lib --bins --locked --quiet -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked --quiet

.PHONY: lint-built
lint-built: lint-quick build
	cargo xtask gen --check
	cargo xtask sizes
	@scripts/php-lint
	@.build/lint/bin/python scripts/newer-ansible
	@scripts/lint

.PHONY: fuzz
fuzz: ## fuzz what reads input of others: 20 s for each target (ARGS='--seconds 3600')
	@scripts/fuzz $(ARGS)

.PHONY: downtime
downtime: build ## measure failed requests, orders and outage of deploys: hours, a minute each (ARGS=--help)
	@scripts/venv $(VENV) $(REQUIREMENTS)/demo.txt
	@PYTHONPATH=tests PYTHONDONTWRITEBYTECODE=1 $(VENV)/bin/python -m downtime $(ARGS)

.PHONY: bench
bench: build ## measure against Python modules, unarchive, tar, cp, upstream: an hour (ARGS=--help)
	@scripts/venv .build/bench/venv tests/bench/requirements.txt
	@PYTHONPATH=tests PYTHONDONTWRITEBYTECODE=1 .build/bench/venv/bin/python -m bench $(ARGS)

.PHONY: crash
crash: build ## kill, disturb, race and load the built modules: half an hour (ARGS=--help)
	@cargo run --release --quiet --locked -p oxistrano-crash -- --modules plugins/modules $(ARGS)

.PHONY: molecule
molecule: build ## test the roles on hosts in containers: 10 minutes (SCENARIO=default: only that one)
	@scripts/molecule $(if $(SCENARIO),test -s $(SCENARIO)) $(ARGS)

.PHONY: collection
collection: build ## build the archive for ansible-galaxy collection install, into .build/
	@scripts/venv $(VENV) $(REQUIREMENTS)/demo.txt
	@PATH="$$PWD/$(VENV)/bin:$$PATH" scripts/archive .build

.PHONY: roles
roles: ## make role archives of deploy and rollback, under the names of ansistrano's, into .build/roles/
	@scripts/roles .build/roles

.PHONY: sanity
sanity: collection ## check the archive as Ansible and Galaxy do: ansible-test sanity, galaxy-importer (15 minutes)
	@for version in $(VERSIONS); do scripts/sanity $$version .build/$(ARCHIVE) $(ARGS) || exit 1; done
	@scripts/importer .build/$(ARCHIVE)

.PHONY: deny
deny: ## check licenses, sources and duplicates of all crates with cargo-deny: when Cargo.lock changes
	@scripts/deny bans licenses sources

.PHONY: release
release: deny ## make a release of this commit, for all processors, into .build/release
	@scripts/release

.PHONY: release-check
release-check: build ## make the release of this commit twice, apart from each other, and compare
	@scripts/release-check

.PHONY: changelog
changelog: ## take what is in changelogs/fragments into CHANGELOG.md
	@scripts/collections
	@scripts/venv .build/lint $(REQUIREMENTS)/lint.txt
	@scripts/changelog

.PHONY: clean
clean: ## remove everything that was built
	@# Molecule's hosts, if some are still there, have their files mounted from below .build.
	@[ ! -d .build/molecule/podman ] || OXISTRANO_ENGINE=podman scripts/molecule-engine rm --force --all >/dev/null
	rm -rf target .build
	rm -rf plugins/plugin_utils/programs plugins/modules/linux_*; find plugins/modules -type l -delete
