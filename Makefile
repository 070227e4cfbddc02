# The two commands of the README are `sudo make lab` and `sudo make test`; both install what they need.
# They work as root without sudo too, and leave nothing in the checkout that its owner cannot remove.

PYTHON  ?= /usr/bin/python3
VENV    := .venv
STAMP   := $(VENV)/.installed
TOOLS   := $(VENV)/bin
OWNER   := $(shell stat -c %u:%g .)
LAB     ?= lab
WORKERS ?= $(shell n=$$(nproc); [ $$n -gt 2 ] || n=2; [ $$n -lt 4 ] || n=4; echo $$n)
PYTEST  := $(TOOLS)/python -m pytest

export PYTHONDONTWRITEBYTECODE = 1

.NOTPARALLEL:
.PHONY: help lab test lint check unit bench conformance system venv format clean own

lab: system venv own  ## Build the virtual data centre and leave it running.
	$(TOOLS)/calicoctl lab up --name $(LAB) $(ARGS)

test: system venv own  ## Run every test, kernel and lab tests included (needs root).
	@scratch=$$(mktemp -d -t c.XXXXX); export XTABLES_LOCKFILE=$$scratch/xtables.lock; \
	$(PYTEST) -p no:cacheprovider -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
		--basetemp=$$scratch/t $(ARGS); status=$$?; \
	rm -rf $$scratch; $(MAKE) --no-print-directory own; exit $$status

lint: venv  ## Formatting, lint, types and import rules.
	$(TOOLS)/ruff format --check .
	$(TOOLS)/ruff check .
	$(TOOLS)/mypy
	$(TOOLS)/lint-imports

check: lint  ## The same and unit tests: what needs no root.
	$(PYTEST) -p no:cacheprovider -q -m "not root" tests/unit tests/histories tests/golden tests/conformance

unit: venv
	$(PYTEST) -p no:cacheprovider -q tests/unit

conformance: system venv own  ## The long conformance runs, on the kernel with both back ends.
	CALICO_CONFORMANCE=all $(PYTEST) -p no:cacheprovider tests/conformance $(ARGS)

bench: system venv own  ## Measure; results go to benchmarks/RESULTS.md by hand, with machine and date.
	$(TOOLS)/python -m benchmarks $(ARGS)

system:  ## Debian packages that the lab and the tests need (nothing is done when they are there).
	@scripts/install-system

venv: $(STAMP)

$(STAMP): pyproject.toml scripts/make-venv
	@scripts/make-venv $(PYTHON) $(VENV)
	@touch $@

own:  ## What root made in a checkout of someone else becomes theirs.
	@if [ "$$(id -u)" = 0 ] && [ "$(OWNER)" != 0:0 ]; then \
		find . -xdev -user 0 -exec chown -h $(OWNER) {} +; fi

format: venv
	$(TOOLS)/ruff format .
	$(TOOLS)/ruff check --fix .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -exec rm -rf {} +
