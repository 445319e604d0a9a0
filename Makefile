# make demo: a study arrives, its workflow runs, the result is in the PACS. `make help` lists the rest.

VENV      := .venv
PY        := $(VENV)/bin/python
PYTHON    ?=
STATE     ?= .demo/state
PYTEST    := $(PY) -m pytest $(ARGS)
PIP       := $(PY) -m pip install --no-color --progress-bar off --disable-pip-version-check
LOCAL     := $(PY) -m airflow_monai.local
# setup.cfg and constraints.txt decide what is installed: a change of either installs again, nothing else does
INSTALLED  = $(VENV)/.installed

# without bytecode every process that Airflow starts compiles what it imports: three times the CPU
unexport PYTHONDONTWRITEBYTECODE
export MAKE_STARTED := $(shell date +%s)
export STUDY KEEP PACS RUNNER REPORT STATE

.PHONY: help demo up stop test test-kube test-gpu bench chaos lint validate test-compose clean python-as-asked
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1  \2/p' $(MAKEFILE_LIST) | awk '{printf "  make %-13s", $$2; $$1=$$2=""; print}'
	@echo
	@echo '  STUDY=<folder of DICOM>  the study to send (default: a phantom)      KEEP=1  leave all running'
	@echo '  RUNNER=docker|process    what runs MAPs    PACS=orthanc|store|none   what receives the result'
	@echo '  PYTHON=<program>         the Python of .venv (3.10 to 3.13)          ARGS="-k text"  for pytest'
	@echo '  make test ARGS=tests/specs      one folder or file of tests, or several'
	@echo
	@echo '  State is in $(STATE); each `make demo` and `make up` erases what the one before left there.'

demo: $(INSTALLED)-demo ## send a study through the whole chain (STUDY=, KEEP=1)
	@exec $(LOCAL) demo --state $(STATE)

up: $(INSTALLED)-demo ## start the same parts without sending anything, and leave them running
	@exec $(LOCAL) up --state $(STATE)

stop: ## end what `make up` or KEEP=1 left running
	@if [ -x $(PY) ]; then exec $(LOCAL) stop --state $(STATE); else echo 'nothing was started'; fi

test: $(INSTALLED)-test ## run all tests (REQUIRE_REAL_PARTS=1: fail where a real part is missing)
	@exec $(PYTEST)

test-kube: $(INSTALLED)-test,kubernetes ## run MAPs as pods of the cluster that KUBECONFIG points to
	@exec $(PYTEST) -v tests/kube

test-gpu: $(INSTALLED)-test ## run MAPs on the NVIDIA cards of this host
	@exec $(PYTEST) -v tests/operators/test_real_cards.py

chaos: $(INSTALLED)-test ## the long tests that kill parts of a running stack (CHAOS_STUDIES=, CHAOS_SECONDS=...)
	@exec $(PYTEST) -s tests/chaos

bench: $(INSTALLED)-bench ## run the benchmarks: a table of ratios and bench-report.json
	@exec $(PY) -m benchmarks $(ARGS)

lint: $(INSTALLED)-test ## ruff and mypy
	@$(PY) -m ruff check . && $(PY) -m mypy

validate: $(INSTALLED)-demo ## check the workflow specs
	@exec $(PY) -m airflow_monai validate workflow_specs

test-compose: $(INSTALLED)-demo ## build the image, start docker-compose.yaml, run two studies, kill the worker's container
	@exec sh compose/test.sh

clean: stop ## remove .venv, .demo and what tools leave behind
	rm -rf $(VENV) .demo .monai *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

# $(call install,<arguments of pip>): tells how far it is; what went wrong is in pip.log
define install
{ { $(PIP) $(1) 2>$(VENV)/pip.log; echo $$? >$(VENV)/pip.code; } | { found=0; while read -r word rest; do \
  case $$word in \
    Collecting) found=$$((found + 1)); [ $$((found % 25)) != 0 ] || echo "  $$found packages found";; \
    Installing) [ $$found = 0 ] || echo "  $$found packages found: writing them, which takes the longest";; \
  esac; done; }; [ "$$(cat $(VENV)/pip.code)" = 0 ]; }
endef

$(INSTALLED)-%: setup.cfg constraints.txt | python-as-asked $(VENV)/bin/pip
	@echo 'installing into $(VENV) (one to two minutes the first time)'
	@$(call install,-c constraints.txt -e '.[$*]') || \
	  { grep -q ResolutionImpossible $(VENV)/pip.log && \
	    echo 'constraints.txt does not fit this Python: installing what does' && $(call install,-e '.[$*]'); } || \
	  { cat $(VENV)/pip.log >&2; exit 1; }
	@echo '  compiling'
	@$(PY) -m compileall -q airflow_monai
	@touch $(INSTALLED)-demo $@

# a PYTHON that cannot be had is told, not passed over; one that came too late is told too
python-as-asked:
	@[ -n "$(PYTHON)" ] || exit 0; \
	shown='import os, sys; print(os.path.realpath(sys.base_prefix), "%d.%d.%d" % sys.version_info[:3])'; \
	asked=$$("$(PYTHON)" -c "$$shown" 2>/dev/null) || { echo 'PYTHON=$(PYTHON): no such Python runs here' >&2; exit 1; }; \
	if [ -x $(PY) ] && [ "$$($(PY) -c "$$shown")" != "$$asked" ]; then \
	  echo 'PYTHON=$(PYTHON) changes nothing: $(VENV) was made with another one (`make clean` first)' >&2; fi

$(VENV)/bin/pip: | python-as-asked
	@for python in $(if $(PYTHON),"$(PYTHON)",python3.11 python3.12 python3.13 python3.10 python3); do \
	  "$$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null || continue; \
	  "$$python" -c 'import venv, ensurepip' 2>/dev/null || { lacking="$$python"; continue; }; \
	  echo "making $(VENV) with $$("$$python" -V)"; \
	  exec "$$python" -m venv $(VENV); \
	done; \
	if [ -n "$$lacking" ]; then echo "$$lacking has no venv module: apt-get install $$lacking-venv" >&2; \
	else echo 'Airflow 3.3 needs Python 3.10 to 3.13: install one (apt-get install python3 python3-venv), or say where' \
	  'one is: make demo PYTHON=<program>' >&2; fi; exit 1
