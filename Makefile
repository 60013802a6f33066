# Every command of the project; `make` alone prints them. Set-up is done by whichever command needs it first.

SHELL := /bin/bash
PYTHON := .venv/bin/python
MENSA := .venv/bin/mensa
.DEFAULT_GOAL := help

.PHONY: help run test setup phone check format bench chaos sounds listen recording map lock clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/ready ## the example town, answering on 127.0.0.1:5060 (AT=2026-11-23T08:50 starts there, AT=now is the real clock, KEEP=1 keeps the data)
	@bin/setup-system run
	@$(PYTHON) -m sounds.derive var/sounds
	@$(MENSA) run $(if $(AT),--at $(AT)) $(if $(KEEP),--keep)

test: .venv/ready ## the whole suite, real calls through a real Asterisk included
	@bin/setup-system test
	@$(PYTHON) -m pytest $(ARGS)

setup: .venv/ready ## everything that `make run` and `make test` need
	@bin/setup-system test
	@$(PYTHON) -m sounds.derive var/sounds

phone: .venv/ready ## the line in this terminal, no Asterisk needed
	@$(MENSA) phone $(ARGS)

check: .venv/ready ## format, lint, types, import contracts, spelling; no tests
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy
	@.venv/bin/lint-imports --no-cache
	@.venv/bin/codespell

format: .venv/ready ## put the code into the house's format
	@$(PYTHON) -m ruff check --fix-only .
	@$(PYTHON) -m ruff format .

bench: .venv/ready ## the benchmarks, each one ratio against a reference run at the same time
	@bin/setup-system test
	@$(PYTHON) -m bench

chaos: .venv/ready ## kill -9 the gateway at 200 random instants of calls, and compare what was said with the database
	@bin/setup-system test
	@CHAOS_ROUNDS=$${CHAOS_ROUNDS:-200} $(PYTHON) -m pytest tests/e2e/test_chaos.py -s

sounds: .venv/voice ## make the clips that are missing or whose words changed
	@bin/setup-system voice
	@$(PYTHON) -m sounds.make

listen: .venv/voice ## measure how well the clips are understood
	@bin/setup-system voice
	@$(PYTHON) -m sounds.listen

recording: .venv/ready ## record a whole call from the caller's side for the README (needs sox, and `make run AT=2026-11-23T18:31` beside it)
	@$(PYTHON) tests/e2e/record_call.py docs/call.ogg

map: .venv/ready ## draw the call for the README
	@$(MENSA) map --svg docs/call-map.svg

lock: ## renew the hash-pinned dependencies from pyproject.toml
	@for extra in "" dev voice; do uv pip compile --upgrade --universal --generate-hashes --no-header \
	    $${extra:+--extra $$extra} pyproject.toml -o requirements$${extra:+-$$extra}.lock -q; done

clean: ## remove what was set up here; the data and secrets in var/ stay
	rm -rf .venv var/asterisk var/sounds

.venv/ready: requirements-dev.lock bin/setup-system bin/mensa
	@bin/setup-system python
	@echo "setup: Python packages (a minute or two on the first run)"
	@python3 -m venv --upgrade-deps .venv 2>/dev/null || python3 -m venv .venv
	@$(PYTHON) -m pip install --quiet --require-hashes -r requirements-dev.lock
	@install -m 755 bin/mensa $(MENSA)
	@touch $@

.venv/voice: .venv/ready requirements-voice.lock
	@$(PYTHON) -m pip install --quiet --require-hashes -r requirements-voice.lock
	@touch $@
