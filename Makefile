# The two commands a newcomer needs: `make start` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --disable-pip-version-check --quiet
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE bash scripts/tests.sh $(BIN)/pytest -q
BOOTED := tests/hostile/test_groups.py tests/hostile/test_scope.py

.PHONY: start test check fast long walls booted clis clean

start: $(VENV)/.installed            ## make everything that is needed, then start or resume research on the tiny track
	$(BIN)/agent start --track tiny

test: $(VENV)/.tested                ## lint, types and the tests; what takes minutes is in `make long`
	$(MAKE) check
	$(PYTEST) -m "not long and not walls and not clis" -n 2

check: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fast: $(VENV)/.tested                ## those that take less than seconds
	$(PYTEST) -m "not slow and not long and not walls and not clis" -n 2

long: $(VENV)/.tested                 ## whole campaigns with real processes, and what else takes minutes
	$(PYTEST) -m "long and not walls and not clis" -n 2

walls: $(VENV)/.tested                ## what hostile code can't do, tried behind every wall that is here
	$(PYTEST) -m walls

booted: $(VENV)/.tested               ## control groups and systemd, in an emulated machine that systemd boots (root, apt-get)
	bash scripts/booted.sh $(BIN)/pytest -q --color=no -p no:cacheprovider $(BOOTED)
	bash scripts/booted.sh --person $(BIN)/pytest -q --color=no -p no:cacheprovider $(BOOTED)

clis: $(VENV)/.tested                ## the real agent CLIs, installed with npm, against a stand-in of their providers
	bash scripts/agent-clis.sh $(VENV)/agent-clis
	bash scripts/offline.sh bash scripts/tests.sh $(BIN)/pytest -q -m clis

# pip comes last: where Debian lacks python3-venv there is a python already, and no pip.
$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/pip pyproject.toml
	@echo "Installing Caddie into $(VENV) (a few minutes the first time) ..."
	$(PIP) -e .
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	@echo "Installing what the tests need ..."
	$(PIP) -e ".[test]"
	@touch $@

clean:                               ## remove the environment; runs.db and .caddie/ stay
	rm -rf $(VENV)
