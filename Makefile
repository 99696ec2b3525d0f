# `make help` lists the targets. Variables: DATASET BACKBONE WEIGHTS NODE DEVICE OUT ARGS IMAGE BENCH PYTHON CONSTRAINTS VENV
PYTHON ?= python3
OUT ?= artifacts
BENCH ?= features
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

SETTINGS = --out "$(OUT)" \
	$(if $(DATASET),--dataset "$(DATASET)") $(if $(BACKBONE),--backbone "$(BACKBONE)") \
	$(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(NODE),--node "$(NODE)") \
	$(if $(DEVICE),--device "$(DEVICE)") $(ARGS)

.PHONY: help setup features xgb compare curve predict finetune pretrain bench test test-all browser lint check clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  variables: DATASET BACKBONE WEIGHTS NODE DEVICE OUT ARGS IMAGE BENCH PYTHON CONSTRAINTS VENV, as in: make compare DATASET=photos WEIGHTS=imagenet"

setup: $(READY) ## make .venv with the tested versions; does nothing while they are unchanged

$(READY): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint "$(CONSTRAINTS)" --editable ".[dev]"
	@touch $@

features: $(READY) ## images to a feature table
	@$(BIN)/treehead features $(SETTINGS)

xgb: $(READY) ## boosted trees on the feature table
	@$(BIN)/treehead xgb $(SETTINGS)

compare: $(READY) ## trees against the linear and the neural head, with a report
	@$(BIN)/treehead compare $(SETTINGS)

curve: $(READY) ## what more labels would bring
	@$(BIN)/treehead curve $(SETTINGS)

predict: $(READY) ## classify IMAGE (a file or a folder) with the trees
	@test -n "$(IMAGE)" || { echo "make predict needs an image: make predict IMAGE=photo.jpg" >&2; exit 2; }
	@model=$$($(BIN)/treehead xgb $(SETTINGS)) && $(BIN)/treehead predict "$$model" "$(IMAGE)" \
		$(if $(DEVICE),--device "$(DEVICE)")

finetune: $(READY) ## retrain BACKBONE itself on DATASET, as in: make finetune DATASET=photos ARGS="--minutes 30"
	@$(BIN)/treehead finetune --dataset "$(or $(DATASET),digits)" --out "$(OUT)" \
		$(if $(BACKBONE),--backbone "$(BACKBONE)") $(if $(WEIGHTS),--weights "$(WEIGHTS)") \
		$(if $(DEVICE),--device "$(DEVICE)") $(ARGS)

pretrain: $(READY) ## train BACKBONE from scratch on DATASET, as in: make pretrain DATASET=photos ARGS="--minutes 60"
	@test -n "$(DATASET)" || { echo "make pretrain needs images: make pretrain DATASET=photos" >&2; exit 2; }
	@$(BIN)/treehead pretrain --dataset "$(DATASET)" --out "$(OUT)" \
		$(if $(BACKBONE),--backbone "$(BACKBONE)") $(if $(DEVICE),--device "$(DEVICE)") $(ARGS)

bench: $(READY) ## measure this machine: extraction, with BENCH=heads the classifiers, with BENCH=finetune training, with BENCH=weights what weights are worth, as in: make bench DEVICE=cuda
	@$(BIN)/$(if $(filter features,$(BENCH)),treehead bench,python -m benchmarks) $(BENCH) $(SETTINGS)

test: $(READY) ## run the tests, but for the slow ones and those that start servers
	$(PYTEST) -m "not slow and not servers"

test-all: $(READY) ## run all tests
	$(PYTEST)

browser: $(READY) ## look at the report in Chromium, as part of the tests does
	$(PYTEST) -m browser

lint: $(READY) ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test-all ## lint and all tests: what CI runs

clean: ## remove the tables, classifiers, searches, comparisons and trunks in OUT, and caches; .venv stays
	@test -n "$(OUT)" -a ! -e "$(OUT)/pyproject.toml" || { echo "make clean: OUT=$(OUT) holds more than results" >&2; exit 2; }
	rm -rf "$(OUT)/features" "$(OUT)/models" "$(OUT)/tune" "$(OUT)/compare" "$(OUT)/inspect" "$(OUT)/curve" "$(OUT)/pretrain" "$(OUT)/images" "$(OUT)/bench" .mypy_cache .ruff_cache .pytest_cache
	@rm -f "$(OUT)/.treehead"
	@rmdir "$(OUT)" 2>/dev/null || true
