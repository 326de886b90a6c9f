# On a fresh machine: Python >= 3.11, git and make, nothing else. Everything lands in .venv/ and build/.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
IMAGE := build/demo.img

# mkfs.btrfs and losetup live in sbin, which is not on everybody's PATH.
export PATH := $(PATH):/usr/sbin:/sbin
# The tests' images fill some GiB; /tmp may lie in memory.
export TMPDIR ?= /var/tmp
# Give root's apt nothing to ask.
export DEBIAN_FRONTEND := noninteractive
# Whoever says so for an image of a container did not think of a thousand processes: each would compile all it imports.
unexport PYTHONDONTWRITEBYTECODE
# How many tests run beside each other: a quarter of their time they wait for disks and mounts.
WORKERS ?= $(shell expr $$(nproc) \* 3 / 2)

.PHONY: demo fixtures test lint format bench bench-mount generate oracles clean

demo: $(READY) $(IMAGE)  ## Show what btrimg is for, on a small image
	@$(BIN)/python fixtures/demo.py

fixtures: $(READY)  ## Build the images of fixtures/gallery
	@$(BIN)/python fixtures/make.py build/fixtures

test: $(READY) oracles  ## Run every test that this machine can run
	$(BIN)/pytest -n $(WORKERS) --junitxml=build/tests.xml

lint: $(READY)  ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict

format: $(READY)  ## Let ruff repair style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(READY)  ## Race the named peers; needs root and a kernel with btrfs
	PYTHONPATH=tests CORPUS="$(CORPUS)" $(BIN)/python -m bench

bench-mount: $(READY)  ## Compare memory and speed of our mount and the kernel's; needs root
	PYTHONPATH=tests $(BIN)/python -m bench.bench_mount

generate: $(READY) $(IMAGE)  ## Write what is derived from the declarations, and outputs of commands in the docs
	$(BIN)/python -m btrimg.ondisk.generate
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/consoles.py

$(IMAGE): fixtures/demo.img.xz fixtures/unpack.py | $(READY)
	@$(BIN)/python fixtures/unpack.py $< $@

clean:  ## Remove what the other targets made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The first Python that is new enough and can make a virtual environment. It is tried by running it: a pyenv shim
# may exist and not work, and Debian's python3 comes without ensurepip.
FIND_PYTHON = for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do \
	$$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; python=; done

$(READY): pyproject.toml
	@$(FIND_PYTHON); \
	if [ -z "$$python" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing python3-venv"; \
		apt-get install -qq python3-venv >/dev/null 2>&1 \
		|| { apt-get update -qq && apt-get install -qq python3-venv >/dev/null; }; \
		$(FIND_PYTHON); \
	fi; \
	if [ -z "$$python" ]; then \
		echo "btrimg needs Python >= 3.11 with venv and ensurepip (Debian, Ubuntu: apt install python3-venv)," >&2; \
		echo "and looked at PYTHON, python3 and python3.11 to python3.14: make PYTHON=/path/to/python" >&2; exit 1; \
	fi; \
	test -x $(BIN)/pip || $$python -m venv $(VENV)
	@echo "Installing btrimg and its tools into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(BIN)/python -m compileall -q btrimg
	@touch $@

# The judges beside the tests; conftest.py says again at the end which tests were skipped for want of one.
oracles:
	@if command -v btrfs >/dev/null && command -v mkfs.btrfs >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing btrfs-progs, the tests' oracle"; \
		apt-get install -qq btrfs-progs >/dev/null 2>&1 \
		|| { apt-get update -qq && apt-get install -qq btrfs-progs >/dev/null; } \
		|| echo "btrfs-progs could not be installed: tests marked progs and kernel will be skipped"; \
	else \
		echo "btrfs-progs not found: tests marked progs and kernel will be skipped (install your system's btrfs-progs)"; \
	fi
	@if [ "$$(id -u)" = 0 ]; then modprobe -q -a loop btrfs 2>/dev/null || true; \
	else echo "not root: tests marked kernel will be skipped (they mount images; sudo make test runs them)"; fi
