# Two commands are enough: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SAMPLE := data/samples/scifact
RUN := runs/quickstart
# A test file belongs to one worker; each worker computes on one thread.
WORKERS ?= 2

.PHONY: quickstart test test-slow lint clean

quickstart: $(VENV)/.quickstart  ## fine-tune, evaluate and publish on a sample: about 6 minutes on 2 cores
	@if [ -e $(RUN) ]; then echo "removing the last quickstart, $(RUN)"; rm -rf $(RUN); fi
	$(BIN)/uprank check data.train=$(SAMPLE) data.dev=$(SAMPLE) data.test=$(SAMPLE)
	$(BIN)/uprank mine data.train=$(SAMPLE) output=$(RUN)/train.jsonl negatives=31
	$(BIN)/uprank train experiment=quickstart data.train=$(RUN)/train.jsonl data.dev=$(SAMPLE) output=$(RUN)/run
	@# By force: so small a sample seldom shows that a new head beats BM25; the card says so then.
	$(BIN)/uprank publish run=$(RUN)/run output=$(RUN)/published force=true
	$(BIN)/uprank eval "models={tuned: $(RUN)/published}" model.precision=auto data.test=$(SAMPLE) depth=20 output=$(RUN)/test
	@echo
	@echo "Training report:     $(RUN)/run/report.html"
	@echo "Held-out queries:    $(RUN)/test/report.html"
	@echo "Folder to publish:   $(RUN)/published (its card: $(RUN)/published/README.md)"

test: $(VENV)/.dev lint  ## lint, types and the tests, without the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow"

test-slow: $(VENV)/.dev  ## several processes, kills, the wheel, the other libraries
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## remove the environment and the quickstart's run
	rm -rf $(VENV) $(RUN)

# torch first and by its pin: a plain `torch` may bring gigabytes of CUDA packages that a CPU has no use for.
$(VENV)/.torch: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	@touch $@

$(VENV)/.quickstart: $(VENV)/.torch pyproject.toml
	$(PIP) -e ".[quickstart,st,flag]"
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(PIP) -e ".[dev]"
	@touch $@
