# Everything from a fresh clone: `make demo`, `make test`, `make lint`, `make soak` and `make soak-slurm`; `make laptop`,
# `make tune` and `make twins` take hours, and go on where they were stopped. All make .venv first, once. Tests run
# against what is installed there (-P), not against this folder.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
# By all cores, where pip takes one; as with pip, a file that cannot be compiled is no failure.
COMPILE = -@$(VENV)/bin/python -m compileall -qq -j 0 $(VENV)/lib
SOURCES := cli.py $(shell find mixmae baselines ablations results -name '*.py' -o -name '*.yaml' -o -name '*.csv' -o -name '*.json' -o -name '*.html' -o -name '*.css' -o -name '*.js')

.PHONY: demo laptop tune twins test lint soak soak-slurm clean

demo: $(VENV)/project
	$(VENV)/bin/mixmae demo

# Of FashionMNIST, in the folder FASHION_MNIST; runs lie in runs/.
laptop: $(VENV)/project
	$(VENV)/bin/mixmae grid run ablations/laptop.yaml
	$(VENV)/bin/mixmae grid run ablations/laptop_labels.yaml
	$(VENV)/bin/mixmae results report ablations/laptop.yaml ablations/laptop_labels.yaml

tune: $(VENV)/project
	$(VENV)/bin/mixmae grid run ablations/tuning.yaml
	$(VENV)/bin/mixmae results best ablations/tuning.yaml --by linear --sweep pretraining
	$(VENV)/bin/mixmae results best ablations/tuning.yaml --by linear --sweep again
	$(VENV)/bin/mixmae results best ablations/tuning.yaml --by finetune --sweep finetuning
	$(VENV)/bin/mixmae results best ablations/tuning.yaml --by finetune --sweep finetuning_again

twins: $(VENV)/project
	$(VENV)/bin/mixmae grid run ablations/twins.yaml
	$(VENV)/bin/mixmae grid run ablations/laptop_twins.yaml
	$(VENV)/bin/mixmae results report ablations/twins.yaml ablations/laptop_twins.yaml

test: lint $(VENV)/project $(VENV)/test-extra
	$(VENV)/bin/python -P -m pytest -n 3 $(PYTEST_ARGS)

lint: $(VENV)/project $(VENV)/test-extra
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy -n 2

soak: $(VENV)/project $(VENV)/test-extra
	$(VENV)/bin/python -P -m pytest tests/soak --long $(PYTEST_ARGS)

soak-slurm: $(VENV)/project $(VENV)/test-extra
	$(VENV)/bin/python -P -m pytest tests/slurm --long $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# What the project needs, installed again when its declaration changes.
$(VENV)/dependencies: $(VENV)/made pyproject.toml constraints.txt
	@rm -rf build
	@echo "Installing into $(VENV): about 6 GB, some minutes"
	$(PIP) install --no-compile -c constraints.txt .
	$(COMPILE)
	@touch $@ $(VENV)/project

$(VENV)/test-extra: $(VENV)/dependencies tests/trackio.txt
	$(PIP) install -q --no-compile -c constraints.txt '.[test]'
	$(PIP) install -q --no-compile --no-deps -r tests/trackio.txt
	$(COMPILE)
	@touch $@ $(VENV)/project

# The project itself, installed again when a file of it changes.
$(VENV)/project: $(VENV)/dependencies $(SOURCES)
	@rm -rf build
	$(PIP) install -q --no-deps .
	@touch $@
