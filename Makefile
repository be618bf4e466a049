# Everything here runs in .venv, which `make install` makes from any Python >= 3.11.
# Another Python: make install PYTHON=python3.12

PYTHON ?= python3
PYTEST_ARGS ?=
# A process for each core, at most 4; all tests of a file in one, as its fixtures are shared.
PYTEST_PROCESSES ?= --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

VENV := .venv
BIN := $(VENV)/bin
# Written last: an install that was cut short has no stamp and is made anew.
INSTALLED := $(VENV)/.installed
UNFINISHED := $(VENV)/.unfinished
# What only the pages need, installed when they are built first.
DOCS_INSTALLED := $(VENV)/.docs

comma := ,
# $(call pip_install,PYTHON,ARGUMENTS): wheels alone, for PYTHON. uv needs a third of pip's time; it does not read pip's
# settings, so that pip does it where these name an index, and wherever uv does not get it done. Bytecode is compiled as pip
# does: where Python may not write it, every command would spend seconds on compiling torch.
define pip_install
	@if $(BIN)/python -m pip config list | grep -q '[.]index-url=' || ! { \
		{ test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
			--only-binary :all: --constraint constraints.txt uv; } && \
		$(BIN)/uv pip install --compile-bytecode --python $(1) --only-binary :all: $(2); }; then \
		$(1) -m pip install --disable-pip-version-check --only-binary :all: $(2); fi
endef
# wavenet-audio itself comes as source: it lies here.
EDITABLE := --no-binary wavenet-audio --constraint constraints.txt --editable

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo docs test test-all test-slow s3-server gpu check format wheel clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS='	' read -r target text; do printf '  make %-10s %s\n' "$$target" "$$text"; done

install: $(INSTALLED)  ## .venv with the pinned packages and this one, editable

$(INSTALLED): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "make: no '$(PYTHON)' here: install Python >= 3.11, or name one: make install PYTHON=/path/to/python3" >&2; \
		exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: '$(PYTHON)' is older than Python 3.11: name a newer one: make install PYTHON=/path/to/python3" >&2; \
		exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: '$(PYTHON)' cannot make virtual environments: install them (Debian, Ubuntu: apt install python3-venv)" >&2; \
		exit 1; }
	@if test -e $(UNFINISHED); then rm -rf $(VENV); fi
	@mkdir -p $(VENV) && touch $(UNFINISHED)
	"$(PYTHON)" -m venv $(VENV)
	$(call pip_install,$(BIN)/python,$(EDITABLE) '.[train$(comma)test]')
	@rm -f $(UNFINISHED)
	@touch $@

demo: install  ## vocode with the voice, train a vocoder for less than a minute and hear it: at most 5 minutes on 2 cores
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python recipes/demo/demo.py --out demo-out

docs: install $(DOCS_INSTALLED)  ## the pages, in site; every warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(DOCS_INSTALLED): $(INSTALLED)
	$(call pip_install,$(BIN)/python,$(EDITABLE) '.[docs]')
	@touch $@

test: install  ## the quick tests
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_PROCESSES) $(PYTEST_ARGS)

# Its packages need other versions than ours (botocore wants python-dateutil < 3): an environment of its own.
s3-server: install  ## an S3 server for the tests of corpora in object stores
	test -x $(VENV)/s3-server/bin/moto_server || { rm -rf $(VENV)/s3-server && \
		"$(PYTHON)" -m venv $(VENV)/s3-server; }
	$(call pip_install,$(VENV)/s3-server/bin/python,'moto[server]>=5.1')

gpu: install  ## check and measure a CUDA device, and leave a report in gpu-report
	$(BIN)/python -m wavenet doctor --device cuda --out gpu-report

test-all: install  ## every test
	$(BIN)/python -m pytest $(PYTEST_PROCESSES) $(PYTEST_ARGS)

test-slow: install  ## the slow tests alone
	$(BIN)/python -m pytest -m slow $(PYTEST_PROCESSES) $(PYTEST_ARGS)

check: install  ## format, lint and types, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install  ## format the code and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: install  ## dist/wavenet_audio-VERSION-py3-none-any.whl
	rm -rf build dist
	$(BIN)/python -m pip wheel --disable-pip-version-check --no-deps --wheel-dir dist .

clean:  ## take away .venv and all that was built
	rm -rf $(VENV) build dist site .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
