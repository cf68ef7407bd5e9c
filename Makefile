# make demo     run everything on this machine       PORT=2222  DEMO_DIR=.demo
# make test     every check: tests, types, lint, import contracts, migrations
# make fuzz     hours of what is tried at random: kills, mutated packets, property tests
# make e2e      the trip tests against any cluster   KUBECONFIG=...  E2E_IMAGE=...  E2E_SHELL_LESS_IMAGE=...
# make e2e-clean  removes what a killed e2e left     KUBECONFIG=...
# make bench    how fast it is beside sshd and kubectl   ONLY=a,b  SIZE_MB=200  ROUNDS=3  (README.md, Speed)
# make check    types, lint and import contracts alone, in seconds
# make format   write the code as the formatter wants it
#
# PYTHON=python3.12 chooses an interpreter for the .venv.

PORT = 2222
DEMO_DIR = .demo
PYTHON = python3
BIN = .venv/bin

.DEFAULT_GOAL = help
.PHONY: help demo test fuzz e2e e2e-clean bench check format
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed '/^$$/q'

# $(call need,program,package): stop, and say how to install the program, unless it is there.
need = command -v $(1) >/dev/null || { echo "$(1) is missing. Install it: sudo apt-get install $(2)" >&2; exit 1; }

demo: .venv/installed
	@$(call need,ssh,openssh-client)
	@exec $(BIN)/bastion demo --dir "$(DEMO_DIR)" --port "$(PORT)"

test: .venv/installed
	@$(call need,ssh,openssh-client)
	@$(call need,ssh-keygen,openssh-client)
	@$(call need,node,nodejs)
	@$(call need,npm,npm)
	@$(call need,plink,putty-tools)
	@$(call need,puttygen,putty-tools)
	@$(call need,dbclient,dropbear-bin)
	@$(call need,dropbearconvert,dropbear-bin)
	@$(call need,rsync,rsync)
	@$(call need,busybox,busybox)
	@$(call need,kubectl,kubectl  (1.30 or newer: Debian 13 has it))
	@$(BIN)/pytest -n 2 --dist loadfile

fuzz: .venv/installed
	@$(BIN)/pytest --fuzz -m "fuzz or hypothesis"

# $(call asked,NAME,--option): the option, if NAME stands on make's command line. Not what the environment has: a
# KUBECONFIG that happens to be exported may lead to a cluster that nobody meant to measure.
asked = $(if $(filter command,$(origin $(1))),$(2)='$($(1))')

# $(call wanted,NAME,what): stop, and say so, unless NAME stands on make's command line.
wanted = $(if $(call asked,$(1),-),:,{ echo "Say which cluster: make $@ $(1)=... ($(2))" >&2; exit 1; })

bench: .venv/installed
	@$(call need,ssh,openssh-client)
	@PYTHONPATH=tests exec $(BIN)/python -m bench $(call asked,ONLY,--only) $(call asked,WHO,--who) \
	  $(call asked,SIZE_MB,--size-mb) $(call asked,ROUNDS,--rounds) $(call asked,CIPHER,--cipher) \
	  $(call asked,CROWD,--crowd) $(if $(call asked,LONG,-),--flood-s=60) $(call asked,PROFILE,--profile) \
	  $(call asked,KUBECONFIG,--kubeconfig) $(call asked,POD,--pod) $(call asked,GROUP,--group) $(call asked,JSON,--json)

# Everything it makes has a name with a random end and the label bastion-e2e. The second image needs no shell.
e2e: .venv/installed
	@$(call need,ssh,openssh-client)
	@$(call need,kubectl,kubectl)
	@$(call wanted,KUBECONFIG,of somebody who may make namespaces and roles)
	@PYTHONPATH=tests exec $(BIN)/python -m e2e $(call asked,KUBECONFIG,--kubeconfig) \
	  $(call asked,E2E_IMAGE,--image) $(call asked,E2E_SHELL_LESS_IMAGE,--shell-less-image)

e2e-clean: .venv/installed
	@$(call need,kubectl,kubectl)
	@$(call wanted,KUBECONFIG,of somebody who may delete namespaces and roles)
	@PYTHONPATH=tests exec $(BIN)/python -m e2e --clean $(call asked,KUBECONFIG,--kubeconfig)

check: .venv/installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: .venv/installed
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

# Made once, and refreshed when what it is made from changes. Only with the hashes of the lock file.
.venv/installed: requirements.lock pyproject.toml
	@$(call need,$(PYTHON),python3)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and $(PYTHON) is older. Install it, then: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "Python's venv is missing. Install it: sudo apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing into .venv; this takes a minute, once." >&2
	@$(PYTHON) -m venv .venv
	@if [ -t 1 ]; then quiet=; else quiet=--quiet; fi; \
	  $(BIN)/python -m pip --disable-pip-version-check install $$quiet --require-hashes -r requirements.lock && \
	  $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-build-isolation --no-deps -e .
	@touch $@
