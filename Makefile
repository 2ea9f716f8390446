# The things people do here. Everything lives in .venv; nothing is installed outside this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := -m pip --disable-pip-version-check install --quiet
# Exactly the locked versions, checked by their hashes. `make lock` writes the lock files.
LOCKED := $(PIP) --require-hashes --requirement requirements
# relayd itself: all that it needs, to be built too, is installed by then.
ITSELF := $(PIP) --no-deps --no-build-isolation

.PHONY: run test quick coverage install lint check-generated hooks generate lock bench bench-quick clean

run: install
	$(BIN)/relayd dev --players 4

install: $(VENV)/.installed

# And what one of the other lock files names.
MORE := $(patsubst requirements/%.lock,install-%,$(filter-out %/run.lock,$(wildcard requirements/*.lock)))
$(MORE): install-%: $(VENV)/.installed-%
.PHONY: $(MORE)

# Several processes share the tests, more than there are cores: most tests wait for something. ARGS go to pytest.
PROCESSES ?= 6
# Compiled once, by the first who imports it, even where bytecode is not wanted otherwise: thousands of times.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --dist=loadgroup --no-loadscope-reorder

test: $(VENV)/.installed-dev
	$(PYTEST) --numprocesses=$(PROCESSES) $(ARGS)

# What needs no other process, in under a minute, with the same examples every time.
quick: $(VENV)/.installed-dev
	$(PYTEST) --numprocesses=auto --hypothesis-profile=quick tests/unit tests/property $(ARGS)

# How much of relayd/ these tests reach by themselves; fails below what pyproject.toml asks for.
coverage: $(VENV)/.installed-dev
	mkdir -p build/coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --dist=loadgroup --no-loadscope-reorder --numprocesses=auto \
	  --hypothesis-profile=quick tests/unit tests/property $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(C_SOURCES)
	$(MAKE) --no-print-directory check-generated

# All C that is written by hand.
C_SOURCES = $(shell find relayd bench fuzz tests -name '*.[ch]' -not -path '*/generated/*')

# Whether `make generate` would change anything, but for the compiled program: tests/unit/kernel/test_object.py.
check-generated: $(VENV)/.installed
	$(BIN)/python -m relayd.forwarding.generated --check
	$(BIN)/python docs/generate.py --check

# `make lint` in front of every commit, as far as a commit touches it.
hooks: $(VENV)/.installed-dev
	$(BIN)/pre-commit install

# All that is made from the code: C headers, what is compiled from them (clang 14), pages of docs/.
generate: $(VENV)/.installed
	$(BIN)/python -m relayd.forwarding.generated
	$(MAKE) --no-print-directory install fast-path
	$(BIN)/python docs/generate.py

# Everything side by side: tables and chart in bench/results, and in the README. Under 15 minutes on two cores.
bench: $(VENV)/.installed-bench
	$(BIN)/python -m bench all --out bench/results
	$(BIN)/python -m bench readme

# The same, only to see that it works: its figures are rough, and go where nothing is kept.
bench-quick: $(VENV)/.installed-bench
	$(BIN)/python -m bench all --quick --out build/bench-quick

clean:
	rm -rf $(VENV) build relayd/forwarding/thread/*.so relayd.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "relayd needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
	  || { echo "This Python has no venv module: on Debian, apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

COMPILED := $(wildcard relayd/forwarding/thread/*.[ch] relayd/forwarding/generated/*.h)

$(VENV)/.installed: pyproject.toml requirements/run.lock $(COMPILED) | $(BIN)/python
	$(BIN)/python $(LOCKED)/run.lock
	$(BIN)/python $(ITSELF) --editable .
	@touch $@

# More than relayd alone needs, for those who measure, work on it, or have all of it tested.
$(VENV)/.installed-%: requirements/%.lock $(VENV)/.installed
	$(BIN)/python $(LOCKED)/$*.lock
	@touch $@

# Versions that still fit are kept; after `rm requirements/*.lock` all are the newest. The largest one comes first, and
# the others follow it: one package has one version.
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command 'make lock'
lock: | $(BIN)/python
	$(BIN)/python $(PIP) 'uv>=0.9'
	$(COMPILE) --extra ci --output-file requirements/ci.lock
	$(COMPILE) --constraint requirements/ci.lock --extra build --output-file requirements/run.lock
	$(COMPILE) --constraint requirements/ci.lock --extra build --extra bench --output-file requirements/bench.lock
	$(COMPILE) --constraint requirements/ci.lock --extra dev --output-file requirements/dev.lock
	$(COMPILE) --constraint requirements/ci.lock --extra fuzz --output-file requirements/fuzz.lock
	$(COMPILE) --constraint requirements/ci.lock --extra mutation --output-file requirements/mutation.lock

# relayd as a service of this host: docs/systemd.md. Installing again upgrades; nothing that is configured is touched.
PREFIX ?= /opt/relayd
# Not PYTHON, which may be one of a user's own: services cannot look into anybody's home.
SYSTEM_PYTHON ?= /usr/bin/python3
UNITS := $(DESTDIR)/usr/local/lib/systemd/system
SYSCTL := $(DESTDIR)/usr/local/lib/sysctl.d
COMMAND := $(DESTDIR)/usr/local/bin/relayd
CONFIGURATION := $(DESTDIR)/etc/relayd

.PHONY: install-system uninstall-system
install-system:
	$(SYSTEM_PYTHON) -m venv $(DESTDIR)$(PREFIX)
	rm -rf build/lib*
	$(DESTDIR)$(PREFIX)/bin/python $(LOCKED)/run.lock
	$(DESTDIR)$(PREFIX)/bin/python $(ITSELF) --upgrade .
	# Made where DESTDIR is, and to be run where it is not.
	sed -i '1s|^#!.*|#!$(PREFIX)/bin/python|' $(DESTDIR)$(PREFIX)/bin/relayd
	install -d $(UNITS) $(SYSCTL) $(CONFIGURATION) $(dir $(COMMAND))
	ln -sf $(PREFIX)/bin/relayd $(COMMAND)
	install -m 644 systemd/*.service $(UNITS)
	sed -i 's|/opt/relayd/|$(PREFIX)/|' $(UNITS)/relayd*.service
	install -m 644 systemd/60-relayd.conf $(SYSCTL)
	test -e $(CONFIGURATION)/relayd.toml || install -m 644 systemd/relayd.toml $(CONFIGURATION)
	@echo 'Next: edit /etc/relayd/relayd.toml. Where it names no control plane, begin with'
	@echo "mkdir -p /var/lib/relayd; [ -e /var/lib/relayd/sessions.json ] || echo '{\"sessions\": []}' >/var/lib/relayd/sessions.json"
	@echo 'Then, in any case,'
	@echo 'systemctl daemon-reload && sysctl --system && systemctl enable --now relayd && relayd check'

# Leaves /etc/relayd and /var/lib/relayd.
uninstall-system:
	if test -z '$(DESTDIR)' && test -d /run/systemd/system; then \
	  systemctl disable --now relayd.service relayd-control-plane.service; systemctl stop 'relayd@*.service'; fi
	test ! -x $(COMMAND) || test -n '$(DESTDIR)' || $(COMMAND) fast-path remove
	rm -rf $(DESTDIR)$(PREFIX) $(COMMAND) $(UNITS)/relayd.service $(UNITS)/relayd@.service
	rm -f $(UNITS)/relayd-control-plane.service $(SYSCTL)/60-relayd.conf

# The kernel program, from its source. The result is in the tree, so only those who change the source need clang.
FAST_PATH := relayd/forwarding/kernel/relay.bpf
CLANG ?= clang
LLVM_STRIP ?= llvm-strip

.PHONY: fast-path
fast-path: $(FAST_PATH).o

# It has headers in common with the forwarding thread.
$(FAST_PATH).o: $(FAST_PATH).c $(wildcard relayd/forwarding/*/*.h)
	cd $(dir $<) && $(CLANG) -O2 -g -target bpfel -mcpu=v3 -Wall -Wextra -Werror \
	  -I/usr/include/$$(uname -m)-linux-gnu -fdebug-compilation-dir=. -c $(notdir $<) -o $(notdir $@)
	$(LLVM_STRIP) --strip-debug $@
