# The things people do here. Everything lives in .venv; nothing is installed outside this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test install lint bench bench-quick clean

run: install
	$(BIN)/relayd dev --players 4

install: $(VENV)/.installed

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

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

$(VENV)/.installed: pyproject.toml $(wildcard relayd/forwarding/thread/*.[ch]) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

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
	$(DESTDIR)$(PREFIX)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade .
	# Made where DESTDIR is, and to be run where it is not.
	sed -i '1s|^#!.*|#!$(PREFIX)/bin/python|' $(DESTDIR)$(PREFIX)/bin/relayd
	install -d $(UNITS) $(SYSCTL) $(CONFIGURATION) $(dir $(COMMAND))
	ln -sf $(PREFIX)/bin/relayd $(COMMAND)
	install -m 644 systemd/*.service $(UNITS)
	sed -i 's|/opt/relayd/|$(PREFIX)/|' $(UNITS)/relayd*.service
	install -m 644 systemd/60-relayd.conf $(SYSCTL)
	test -e $(CONFIGURATION)/relayd.toml || install -m 644 systemd/relayd.toml $(CONFIGURATION)
	@echo 'Next: edit /etc/relayd/relayd.toml, then run'
	@echo 'systemctl daemon-reload && sysctl --system && relayd check && systemctl enable --now relayd'

# Leaves /etc/relayd and /var/lib/relayd.
uninstall-system:
	if test -z '$(DESTDIR)' && test -d /run/systemd/system; then \
	  systemctl disable --now relayd.service relayd-control-plane.service; systemctl stop 'relayd@*.service'; fi
	test ! -x $(COMMAND) || test -n '$(DESTDIR)' || $(COMMAND) fast-path remove
	rm -rf $(DESTDIR)$(PREFIX) $(COMMAND) $(UNITS)/relayd.service $(UNITS)/relayd@.service
	rm -f $(UNITS)/relayd-control-plane.service $(SYSCTL)/60-relayd.conf

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

# The kernel program, from its source. The result is in the tree, so only those who change the source need clang.
FAST_PATH := relayd/forwarding/kernel/relay.bpf
CLANG ?= clang
LLVM_STRIP ?= llvm-strip

.PHONY: fast-path
fast-path: $(FAST_PATH).o

$(FAST_PATH).o: $(FAST_PATH).c $(wildcard relayd/forwarding/kernel/*.h) relayd/forwarding/thread/meter.h relayd/forwarding/thread/pings.h
	cd $(dir $<) && $(CLANG) -O2 -g -target bpfel -mcpu=v3 -Wall -Wextra -Werror \
	  -I/usr/include/$$(uname -m)-linux-gnu -fdebug-compilation-dir=. -c $(notdir $<) -o $(notdir $@)
	$(LLVM_STRIP) --strip-debug $@
