# Two commands do everything on a fresh machine: `make run` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := platform components pipelines services tests
PYTEST := $(BIN)/python -m pytest
FAST := not slow and not fault and not attack and not browser
APART := not images and not cluster and not cluster_node and not spark
SPARK_VENV ?= .venv-spark
SPARK_STAMP := $(SPARK_VENV)/.installed

.DEFAULT_GOAL := help

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

run: install  ## digits: prepared, trained, compressed, chosen, registered, served, and asked once
	$(BIN)/windlass try pipelines/recipes/digits.yaml

test: install  ## every test that needs no special fault, browser or cluster
	$(PYTEST) -m "not fault and not attack and not browser and $(APART)"

test-faults: install  ## faults, attacks and the browser
	$(PYTEST) -m "(fault or attack or browser) and $(APART)"

test-images: install  ## builds the images and looks into them
	$(PYTEST) -m images

test-spark: $(SPARK_STAMP)  ## preparing data on Spark, on this machine; needs Java, and has a virtual environment of its own
	$(SPARK_VENV)/bin/python -m pytest -m spark --confcutdir tests/spark tests/spark

test-cluster: install  ## on the cluster of KUBECONFIG, with our images on its nodes; docs/how-to/small-cluster.md
	$(PYTEST) -m "cluster and not cluster_node" tests/cluster

test-cluster-full: install  ## the same, each promise on both kinds of training job
	WINDLASS_TEST_ALL_KINDS=1 $(PYTEST) -m "cluster and not cluster_node" tests/cluster

test-cluster-node: install  ## what harms the node and its storage: only on a cluster that is thrown away
	$(PYTEST) -m cluster_node tests/cluster

test-lowest: install  ## the fast tests on the lowest versions that pyproject.toml allows, torch apart: its wheel is pinned
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet 'uv>=0.9'
	grep '^torch==' constraints.txt > .venv-lowest/pinned.txt
	.venv-lowest/bin/uv pip compile --quiet --resolution lowest-direct --extra all --extra dev \
		--constraint .venv-lowest/pinned.txt pyproject.toml -o .venv-lowest/requirements.txt
	.venv-lowest/bin/python -m pip install --quiet -r .venv-lowest/requirements.txt
	.venv-lowest/bin/python -m pip install --quiet --no-deps -e .
	.venv-lowest/bin/python -m pytest -q -m "$(FAST) and $(APART)"

check: lint  ## what each commit has to pass: that and the fast tests
	$(PYTEST) -q -m "$(FAST) and $(APART)"

lint: install  ## style, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy platform/windlass platform/windlass_cli components/windlass_components \
		pipelines/windlass_pipelines services/gateway/windlass_gateway
	$(BIN)/lint-imports --no-logo

format: install  ## style, mended in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install  ## ratios measured side by side, as tables and as JSON in bench-results/; bench_cluster.py and bench_spark.py by hand
	@set -e; for bench in $(filter-out %/bench_cluster.py %/bench_spark.py,$(wildcard tests/performance/bench_*.py)); do echo "== $$bench"; $(BIN)/python $$bench; done

generate: install  ## what is made from source: the pipelines' YAML, the reference of the recipe
	$(BIN)/python -m windlass_pipelines.compile
	$(BIN)/python -m windlass.recipe.reference docs/reference/recipe.md

constraints: install  ## write down the versions that are installed now
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/pip freeze --exclude-editable | grep -v '^windlass' | sed 's/+cpu//'; } > constraints.new
	@mv constraints.new constraints.txt

requirements: install  ## the hashed requirements of the images, from pyproject.toml and constraints.txt
	@set -e; for role in build gateway mlflow components torch-cpu spark; do \
		echo "requirements/$$role.txt"; $(BIN)/python hack/lock_requirements.py $$role; done

images:  ## the images that images.txt lists; REGISTRY, TAG, PYTHON_IMAGE, BUILDER and IMAGES="NAME…" change what and how
	hack/build-images $(IMAGES)

install: $(STAMP)  ## a virtual environment with every role's packages

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,dev]'
	@touch $@

# PySpark is half a gigabyte that no other test needs.
$(SPARK_STAMP): pyproject.toml constraints-spark.txt
	$(PYTHON) -m venv $(SPARK_VENV)
	$(SPARK_VENV)/bin/python -m pip install --quiet -c constraints-spark.txt -e '.[spark,pipelines]' \
		hypothesis 'moto[server]' pytest pytest-timeout scikit-learn
	@touch $@

clean:  ## remove what was built; results in .windlass/ stay
	rm -rf $(VENV) $(SPARK_VENV) .venv-lowest .mypy_cache .ruff_cache .pytest_cache bench-results

.PHONY: help run test test-faults test-images test-spark test-cluster test-cluster-full test-cluster-node test-lowest check lint format bench generate constraints requirements images install clean
