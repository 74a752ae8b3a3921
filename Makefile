# `make demo` and `make test` do all the set-up they need. `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
READY := .venv/.ready
DEMO_MONTHS ?= 7-9
ONLY ?=
SET ?=
TYPED := libs/millrace services infra examples bench

.PHONY: help setup demo test prove lint format types wire lock bench clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(READY) ## Install everything pinned into .venv, and Kafka's jars into the cache

$(READY): requirements/dev.txt libs/pyproject.toml infra/kafka/pom.xml
	@scripts/setup
	@$(BIN)/python -m infra.embedded.fetch
	@touch $(READY)

demo: $(READY) ## The main job: three months of real flights through all seven services (DEMO_MONTHS=1-12 for the year)
	@DEMO_MONTHS=$(DEMO_MONTHS) $(BIN)/python -m examples.flights.demo

test: $(READY) ## All tests, with seeded samples of the long proofs
	@$(BIN)/pytest -m "not prove" -q

prove: $(READY) ## The long proofs in full; resumable, dated results under docs/proofs
	@MILLRACE_PROVE_RESUME=1 $(BIN)/pytest -m prove -q --timeout 7200

lint: $(READY) ## Style, types, import rules, generated code
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy $(TYPED)
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/generate_wire.py --check && $(BIN)/python scripts/generate_oip.py --check

types: $(READY) ## Types alone
	@$(BIN)/mypy $(TYPED)

format: $(READY) ## Format the code
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

wire: $(READY) ## Generate libs/millrace/wire from proto/
	@$(BIN)/python scripts/generate_wire.py && $(BIN)/python scripts/generate_oip.py

lock: ## Compile the pinned requirements, with hashes and without index addresses
	@for name in dev platform image; do uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  requirements/$$name.in $$([ $$name = platform ] && echo -c requirements/dev.txt) -o requirements/$$name.txt; done

bench: $(READY) .venv-peers/.ready ## What we measure, with peers beside us (ONLY=online,stream chooses; SET=stream.events=300000 sizes)
	@$(BIN)/python -m bench --only "$(ONLY)" $(addprefix --set ,$(SET))

.venv-peers/.ready: bench/peers/requirements.txt
	@$(BIN)/python -m bench.peers

clean: ## Remove what runs leave behind, not the packages
	@rm -rf .millrace .pytest_cache .mypy_cache .ruff_cache .hypothesis
