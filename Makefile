# The project's commands. `make help` lists them.

CARGO ?= cargo
DESTDIR ?=
PREFIX ?= /usr/local
# udev reads this directory and /etc/udev/rules.d, not those below /usr/local/lib.
UDEVRULESDIR ?= /usr/lib/udev/rules.d
# systemd reads those below /usr/lib and /usr/local/lib.
UNITDIR ?= $(PREFIX)/lib/systemd/system

# journalctl reads these as well, once `journalctl --update-catalog` was called.
CATALOGDIR ?= $(PREFIX)/lib/systemd/catalog

# Where zsh looks below /usr/local, and everywhere but on Debian below /usr.
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions

DOCDIR = $(PREFIX)/share/doc/pvusb-agent
# Rules to be switched on by links into /etc/pvusb-agent/rules.d.
RULESDIR = $(PREFIX)/share/pvusb-agent/rules
INSTALL = install
BUILT = $(or $(CARGO_TARGET_DIR),target)/release/pvusb-agent

.DEFAULT_GOAL := help
.PHONY: help deps demo test test-xen xen-shell fuzz mutants lint doc generated order build deb rpm install uninstall

help: ## list the commands
	@echo 'pvusb-agent: USB devices in dom0 -> PVUSB ports of domains'
	@echo
	@awk -F ': ?[^#]*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'To begin: make demo. It needs a Rust toolchain, but no Xen.'

deps: ## install what building and testing need (Debian, Ubuntu), or say what is missing
	@tests/scripts/deps.sh

demo: deps ## watch the agent at work on made-up devices and domains
	$(CARGO) build --locked --bin pvusb-agent
	$(CARGO) run --locked --example demo

test: deps ## run all tests, against the real libudev and both real xenstoreds
	$(CARGO) test --locked

test-xen: build ## run it on a real Xen inside QEMU; SCENARIO=name for one (Debian 12, about 1.5 GB)
	tests/xen/build --systemd
	tests/xen/run.py --agent '$(BUILT)' $(SCENARIO)

xen-shell: build ## a shell in a real dom0 inside QEMU, with the agent in it
	tests/xen/build
	tests/xen/shell --agent '$(BUILT)'

fuzz: deps ## look for bytes that break a rule: TARGET=wire, nodes, device, policy, control, paper or convert; SECONDS=60
	fuzz/run '$(or $(TARGET),wire)' '$(or $(SECONDS),60)'

# What the module's own tests do not notice is shown to the simulated world as well. A world that fails
# need not be made short: that takes longer than all the rest.
mutants: export PVUSB_AGENT_SEEDS = 40
mutants: export PVUSB_AGENT_SHRINKS = 0
mutants: export PROPTEST_MAX_SHRINK_ITERS = 0
mutants: deps ## break the core in hundreds of ways: do tests notice? MUTANTS='--file src/plan/next.rs' for a part
	@command -v cargo-mutants >/dev/null || \
	    { echo 'cargo-mutants is missing: cargo install --locked cargo-mutants' >&2; exit 1; }
	$(CARGO) mutants --output target --cargo-arg=--lib $(MUTANTS) || case $$? in 2|3) ;; *) exit 1 ;; esac
	$(CARGO) mutants --output target --cargo-arg=--lib --cargo-arg=--test=simulation --iterate $(MUTANTS)

lint: ## check the formatting and let clippy complain
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

doc: ## build the code's documentation; a broken link is an error
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items

generated: ## write the manual pages and the JSON Schemas anew, in dist/
	SNAPSHOTS=overwrite $(CARGO) test --locked --test integration generated::

order: ## find out anew which functions an idle agent uses, so that the others stay out of memory (dist/order.ld)
	tests/scripts/order.sh

build: ## build the program to install: target/release/pvusb-agent
	$(CARGO) build --locked --release

deb: ## make a Debian package in target/packages; REVISION=2 for another one of the same version
	dist/package deb $(REVISION)

rpm: ## make an RPM package in target/packages
	dist/package rpm $(REVISION)

# Installs what `make build` built, so that root needs no Rust toolchain. The policy in /etc is the
# administrator's and is never touched.
install: ## install what make build built, the unit, the udev rules and the documents (DESTDIR=, PREFIX=)
	@test -x '$(BUILT)' || { echo 'run `make build` first' >&2; exit 1; }
	$(INSTALL) -D -m 0755 '$(BUILT)' '$(DESTDIR)$(PREFIX)/bin/pvusb-agent'
	$(INSTALL) -d '$(DESTDIR)$(UNITDIR)' '$(DESTDIR)$(UDEVRULESDIR)' '$(DESTDIR)$(RULESDIR)' '$(DESTDIR)$(DOCDIR)/docs'
	sed 's,/usr/bin/pvusb-agent,$(PREFIX)/bin/pvusb-agent,; s,/usr/share/doc/pvusb-agent,$(DOCDIR),' \
	    dist/pvusb-agent.service >'$(DESTDIR)$(UNITDIR)/pvusb-agent.service'
	chmod 0644 '$(DESTDIR)$(UNITDIR)/pvusb-agent.service'
	for unit in pvusb-agent-metrics.service pvusb-agent-metrics.timer; do \
	    sed 's,/usr/bin/pvusb-agent,$(PREFIX)/bin/pvusb-agent,; s,/usr/share/doc/pvusb-agent,$(DOCDIR),' \
	        "dist/$$unit" >"$(DESTDIR)$(UNITDIR)/$$unit" && chmod 0644 "$(DESTDIR)$(UNITDIR)/$$unit" || exit 1; done
	$(INSTALL) -D -m 0644 dist/pvusb-agent.catalog '$(DESTDIR)$(CATALOGDIR)/pvusb-agent.catalog'
	$(INSTALL) -m 0644 udev/70-pvusb-agent.rules '$(DESTDIR)$(UDEVRULESDIR)'
	$(INSTALL) -m 0644 udev/60-pvusb-agent-quarantine.rules '$(DESTDIR)$(DOCDIR)'
	$(INSTALL) -m 0644 README.md CHANGELOG.md LICENSE '$(DESTDIR)$(DOCDIR)'
	sed 's,/usr/share/pvusb-agent,$(PREFIX)/share/pvusb-agent,' policy.example.yaml \
	    >'$(DESTDIR)$(DOCDIR)/policy.example.yaml'
	chmod 0644 '$(DESTDIR)$(DOCDIR)/policy.example.yaml'
	$(INSTALL) -m 0644 dist/policy.schema.json dist/test.schema.json dist/scenario.schema.json \
	    '$(DESTDIR)$(PREFIX)/share/pvusb-agent'
	$(INSTALL) -D -m 0644 dist/pvusb-agent-policy.5 \
	    '$(DESTDIR)$(PREFIX)/share/man/man5/pvusb-agent-policy.5'
	$(INSTALL) -d '$(DESTDIR)$(PREFIX)/share/man/man1'
	$(INSTALL) -m 0644 dist/man/*.1 '$(DESTDIR)$(PREFIX)/share/man/man1'
	$(INSTALL) -D -m 0644 dist/completions/pvusb-agent.bash \
	    '$(DESTDIR)$(PREFIX)/share/bash-completion/completions/pvusb-agent'
	$(INSTALL) -D -m 0644 dist/completions/_pvusb-agent \
	    '$(DESTDIR)$(ZSHDIR)/_pvusb-agent'
	$(INSTALL) -D -m 0644 dist/completions/pvusb-agent.fish \
	    '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/pvusb-agent.fish'
	for rules in rules/*.yaml; do \
	    sed 's,/usr/share/pvusb-agent,$(PREFIX)/share/pvusb-agent,' "$$rules" >"$(DESTDIR)$(RULESDIR)/$${rules##*/}" || exit 1; done
	chmod 0644 '$(DESTDIR)$(RULESDIR)'/*.yaml
	$(INSTALL) -d '$(DESTDIR)$(DOCDIR)/docs/scenarios' '$(DESTDIR)$(RULESDIR)/tests'
	$(INSTALL) -m 0644 rules/tests/*.yaml '$(DESTDIR)$(RULESDIR)/tests'
	$(INSTALL) -m 0644 docs/*.md '$(DESTDIR)$(DOCDIR)/docs'
	$(INSTALL) -m 0644 docs/scenarios/*.yaml '$(DESTDIR)$(DOCDIR)/docs/scenarios'

# What `install` would put there, so the two cannot differ. The program itself need not be built for that.
uninstall: ## remove what make install put there (same DESTDIR=, PREFIX=); what is in /etc stays
	@tree=$$(mktemp -d) && trap 'rm -rf "$$tree"' EXIT && \
	$(MAKE) -s install BUILT=/bin/true DESTDIR="$$tree" && \
	(cd "$$tree" && find . -type f -printf '%P\n') | xargs -d '\n' -I '{}' rm -f '$(DESTDIR)/{}'
	@for own in '$(DESTDIR)$(DOCDIR)' '$(DESTDIR)$(PREFIX)/share/pvusb-agent'; do \
	    [ ! -d "$$own" ] || find "$$own" -depth -type d -empty -delete; done
