# ptelab: every target explains itself; `make` alone lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NAME ?=

# make scenario NAME=multi-fault CPUS=1,8 passes these through; ARGS takes anything else
OPTIONS = $(if $(CPUS),--cpus $(CPUS)) $(if $(POLICY),--policy $(POLICY)) $(if $(ENGINE),--engine $(ENGINE)) \
	$(if $(REPEAT),--repeat $(REPEAT)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) \
	$(if $(JSON),--json '$(JSON)') $(if $(KNOB),--knob $(KNOB)) $(if $(VARIANT),--variant $(VARIANT)) \
	$(if $(SCALE),--scale $(SCALE)) $(if $(CHECKS),--checks $(CHECKS)) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup scenario list test races explore findings stress soak bench bench-scale mutants judge lint format clean

help: ## show the targets
	@echo "ptelab: make TARGET"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 14

setup: $(READY) ## make .venv with everything in it; leaves .venv/bin/ptelab

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON): not found. Try: make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ptelab needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.11" >&2; exit 2; }
	@echo "setting up $(VENV) (once)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,report,campaign]'
	@touch $@

scenario: $(READY) ## run a scenario: make scenario NAME=multi-fault [CPUS= POLICY= ENGINE= REPEAT= SECONDS= SEED= JSON=]
	@$(if $(NAME),,echo "which? make scenario NAME=multi-fault; make list shows all" >&2; exit 2;) $(BIN)/ptelab run $(NAME) $(OPTIONS)

list: $(READY) ## list scenarios, policies, knobs and engines
	@$(BIN)/ptelab list

test: $(READY) ## run the tests on two workers
	@$(BIN)/python -m pytest -n 2 -q -m 'not stress' $(ARGS)

races: $(READY) ## leave out each piece of the protocol and catch what follows: make races [SEEDS=20] [JSON=]
	@$(BIN)/ptelab races $(if $(SEEDS),--seeds $(SEEDS)) $(if $(JSON),--json '$(JSON)') $(ARGS)

explore: $(READY) ## every interleaving: prove the claims, find the zoo [WRITE=docs/claims.md] [JSON=] [SECONDS= per proof]
	@$(BIN)/ptelab explore all $(if $(WRITE),--write '$(WRITE)') $(if $(SECONDS),--seconds $(SECONDS)) \
		$(if $(JSON),--json '$(JSON)') $(ARGS)

findings: $(READY) ## what is wrong, posted and merged, each defect shown [WRITE=docs/findings.md] [JSON=]
	@$(BIN)/ptelab findings $(if $(WRITE),--write '$(WRITE)') $(if $(JSON),--json '$(JSON)') $(ARGS)

stress: $(READY) ## race real processes for longer: make stress STRESS=10 is ten times as long
	@STRESS=$(or $(STRESS),1) $(BIN)/python -m pytest -n 2 -q -m stress $(ARGS)

soak: $(READY) ## the full protocol for 1e10 page faults, taken up where it ended: make soak [FAULTS= SECONDS= STATE=]
	@$(BIN)/ptelab soak --state $(or $(STATE),soak.json) $(if $(FAULTS),--faults $(FAULTS)) \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

bench: $(READY) ## measure; make bench BASE=old.json prints the change against an earlier file
	@$(BIN)/python -m benchmarks.bench $(if $(BASE),--base $(BASE)) $(if $(JSON),--json '$(JSON)') $(ARGS)

bench-scale: $(READY) ## how the cost of an operation grows, some minutes; status 1: an exponent above 1.1 [JSON=] [ARGS=]
	@$(BIN)/python -m benchmarks.scale $(if $(JSON),--json '$(JSON)') $(ARGS)

mutants: $(READY) ## small changes of the kernel: which are noticed, by what [SECONDS=5 per mutant] [JSON=] [ARGS=]
	@$(BIN)/python -m benchmarks.mutants $(if $(SECONDS),--seconds $(SECONDS)) $(if $(JSON),--json '$(JSON)') $(ARGS)

judge: $(READY) ## ask every outside judge, about an hour: fuzzed input, litmus, mutants, traces [COUNT=1000 tries it out] [JSON=]
	@$(BIN)/python -m benchmarks.judge $(if $(COUNT),--count $(COUNT)) $(if $(JSON),--json '$(JSON)') $(ARGS)

lint: $(READY) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY) ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## remove .venv, caches and results
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis build *.egg-info results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
