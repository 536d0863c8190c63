# Everything happens in the clone (.venv, build, .letterlock) and in ~/.cache/letterlock (test binaries, built once).
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run install test check bench many durability vanish e2e fuzz crds image locks

BIN := .venv/bin
READY := .venv/.ready

help: ## This list
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):[^#]*## (.*)/  make \1|\2/' | column -t -s '|'

run: $(READY) ## Serve examples/quickstart on this machine, with a receiver, and show how to send a first message
	@examples/run.sh

install: $(READY) ## The command, and all that it needs, in .venv
	@echo 'export PATH="$(CURDIR)/$(BIN):$$PATH"'

test: $(READY) ## Everything: checks and all tests, with real MTAs, a real API server and real pods (installs and builds what is missing)
	@sh tests/harness/install.sh
	@tests/harness/sslyze.sh >/dev/null
	@{ tests/harness/kube/build.sh node && tests/harness/kube/build.sh oldest && tests/harness/kube/image.sh; } >/dev/null & build=$$!; \
	$(MAKE) --no-print-directory check; checked=$$?; \
	echo "What testssl and sslyze say of a listener: build/reports"; \
	wait $$build && [ $$checked -eq 0 ] && tests/everything.sh

check: $(READY) ## Format, lint, types, architecture, generated files and pure tests: under a minute
	$(BIN)/ruff format --check -q .
	$(BIN)/ruff check -q .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m letterlock_api.crd --check
	$(BIN)/pytest -q tests/pure tests/decide

bench: $(READY) ## Measure: messages per second next to Postfix, time to a changed certificate, memory, time to start
	@sh tests/harness/install.sh
	$(BIN)/python -m tests.bench

many: $(READY) ## Measure 1,000 certificates at once, and one change among 10,000 destinations: time, requests, memory
	$(BIN)/python -m tests.bench.many
	$(BIN)/python -m tests.bench.multitude

durability: $(READY) ## 200 times kill -9 under load, full and broken disks, clock jumps: counts message ids on both ends
	@sh tests/harness/install.sh
	LETTERLOCK_KILLS=200 $(BIN)/pytest -s tests/mail/test_durability.py tests/mail/durability_full_disk.py

e2e: $(READY) ## All of a gateway's life on real pods, as root: 500 changes on the wire, 1 to 5 to 2 members, the API server gone, source addresses
	@sh tests/harness/install.sh
	LETTERLOCK_CHANGES=500 $(BIN)/pytest -s tests/cluster/test_*.py tests/cluster/e2e_*.py

vanish: $(READY) ## 10,000 clients and more that vanish in every state of a session, and what they leave behind: nothing
	LETTERLOCK_VANISH=10000 $(BIN)/pytest -q -s tests/gateway/test_vanishing.py
	$(BIN)/python -m tests.bench.vanish

fuzz: $(READY) ## Look for what breaks the protocol session, for FUZZ_SECONDS (600); what is found goes into the corpus
	$(BIN)/python -m tests.gateway.fuzzing $(or $(FUZZ_SECONDS),600)

crds: $(READY) ## Write the CRDs and the pages of reference anew from the models and the commands
	$(BIN)/python -m letterlock_api.crd
	$(BIN)/python -m letterlock_cli.reference

image: ## Build the image that the tests' clusters run, and print its archive (no registry of images is needed)
	@tests/harness/kube/image.sh | head -1

locks: ## Write requirements/*.txt anew from pyproject.toml
	.ci/uv pip compile -q --generate-hashes --no-header --python-version 3.13 pyproject.toml -o requirements/runtime.txt
	.ci/uv pip compile -q --generate-hashes --no-header --python-version 3.13 pyproject.toml --group dev -o requirements/dev.txt
	.ci/uv pip compile -q --generate-hashes --no-header --python-version 3.13 requirements/sslyze.in -o requirements/sslyze.txt

# Bytecode is written as an installer would: where Python itself is told not to (PYTHONDONTWRITEBYTECODE), each start of a
# program would compile all that it imports, which takes longer than anything else in it.
$(READY): requirements/dev.txt pyproject.toml
	.ci/uv venv -q --allow-existing --python 3.13 .venv
	.ci/uv pip install -q --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/dev.txt
	.ci/uv pip install -q --python $(BIN)/python --no-deps -e .
	$(BIN)/python -m compileall -q crds operator gateway cli
	@touch $@
