# On Debian 12 or 13 every target first installs what it lacks, as root; otherwise it prints the
# one command that does.

SHELL := /bin/bash
CARGO := cargo

TOOLCHAIN := cargo:cargo-web rustc:rustc-web cc:gcc cc:libc6-dev
LINTERS := cargo-fmt:rustfmt-web cargo-clippy:rust-web-clippy shellcheck:shellcheck
LAB := ip:iproute2 ss:iproute2 ping:iputils-ping traceroute:traceroute tcpdump:tcpdump \
	nc:netcat-openbsd iperf3:iperf3 inetd:openbsd-inetd nft:nftables sysctl:procps flock:util-linux ethtool:ethtool

BENCH := python3:python3 openssl:openssl ssh:openssh-client
PYTHON_TESTS := python3 -B -m unittest discover -q -s tests/bench -p '*_test.py'

# libFuzzer is C++.
FUZZ := c++:g++
TIME := 60

PACKAGING := dpkg-buildpackage:dpkg-dev dh:debhelper
# The linters of the formula are installed below target/, but for yamllint.
SALT_LINTERS := yamllint:yamllint
MACHINES := mmdebstrap:mmdebstrap systemd-nspawn:systemd-container setpriv:util-linux

SCRIPTS := tests/need tests/unpack tests/lab/lab tests/lab/demo tests/fuzz/run tests/e2e/rootfs tests/e2e/installed \
	tests/e2e/salt-venv .ci/run packaging/build-deb \
	packaging/crates packaging/smoke debian/tests/tunnel debian/tests/service

# Manuals are shown by man(1); what else these tests need they unpack under target/.
SINGLE := python3:python3 man:man-db flock:util-linux

# Everything that needs one host only.
SINGLE_HOST := --lib --bins --examples $(patsubst tests/%.rs,--test %,$(wildcard tests/*.rs))

.DEFAULT_GOAL := help
.PHONY: help build demo test quick bench fuzz lint salt-lint deb e2e reproducible deps clean

help:
	@echo 'make demo    six hosts in namespaces: the router dies, the tunnel takes over (root)'
	@echo 'make test    everything: lint, units, properties, the lab, the package (root)'
	@echo 'make quick   units, properties and single-host checks, under two minutes (root)'
	@echo 'make bench   side by side with its peers, half an hour (root); shorter: QUICK=1,'
	@echo '             BENCH_ONLY=tunnel64d-tls,direct BENCH_LINES=20mbit BENCH_ROUNDS=1'
	@echo 'make fuzz    each parser of foreign bytes for a minute; TIME=600, TARGETS="tls frame"'
	@echo 'make lint    format, clippy, shellcheck; salt-lint, yamllint and ruff (make salt-lint)'
	@echo 'make deb     the Debian package: target/debian/tunnel64d.deb'
	@echo 'make e2e     the package in booted Debian 12 and 13, two gateways each, and the Salt formula'
	@echo '             on six hosts, on each version of Salt and with a master (root)'
	@echo 'make build   target/release/tunnel64d'
	@echo 'make deps    install what all of these need (root)'
	@echo 'make clean   remove what was built'

build:
	@tests/need $(TOOLCHAIN)
	$(CARGO) build --release --locked

demo:
	@tests/need $(TOOLCHAIN) $(LAB)
	$(CARGO) build --release --locked
	@tests/lab/demo

# Labs run two at a time: each keeps several processes busy, and some tests wait for two seconds.
test: lint
	@tests/need $(TOOLCHAIN) $(LAB) $(SINGLE)
	$(CARGO) build --locked --bins --examples
	TUNNEL64D_BIN=target/debug/tunnel64d tests/lab/demo
	$(CARGO) test --locked $(SINGLE_HOST)
	$(PYTHON_TESTS)
	$(CARGO) test --locked --doc
	RUST_TEST_THREADS=2 $(CARGO) test --locked --test lab
	$(MAKE) e2e reproducible

quick:
	@tests/need $(TOOLCHAIN) $(SINGLE)
	$(CARGO) test --locked $(SINGLE_HOST)
	$(PYTHON_TESTS)

# The peers are unpacked under target/, not installed.
bench:
	@tests/need $(TOOLCHAIN) $(LAB) $(BENCH)
	$(CARGO) build --release --locked --bins --examples
	@tests/bench/bench $(if $(QUICK),--quick) $(if $(BENCH_ONLY),--only $(BENCH_ONLY)) \
		$(if $(BENCH_LINES),--lines $(BENCH_LINES)) $(if $(BENCH_ROUNDS),--rounds $(BENCH_ROUNDS))

fuzz:
	@tests/need $(TOOLCHAIN) $(FUZZ)
	@tests/fuzz/run $(TIME) $(TARGETS)

lint:
	@tests/need $(TOOLCHAIN) $(LINTERS)
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path tests/fuzz/Cargo.toml
	$(CARGO) metadata --locked --format-version 1 --manifest-path tests/fuzz/Cargo.toml > /dev/null
	$(CARGO) clippy --locked --all-targets -- -D warnings
	shellcheck $(SCRIPTS)
	@$(MAKE) salt-lint

salt-lint: target/lint/done
	@tests/need $(SALT_LINTERS)
	yamllint --strict -c salt/.yamllint salt/FORMULA salt/pillar.example salt/tunnel64d/defaults.yaml salt/lab
	target/lint/bin/salt-lint $$(find salt -name '*.sls')
	target/lint/bin/ruff check --quiet --no-cache --config salt/.ruff.toml salt tests/salt

# Debian's python3 may be there without what makes environments.
target/lint/done:
	@tests/need python3:python3
	@python3 -c 'import ensurepip, venv' 2>/dev/null || tests/need ensurepip:python3-venv
	python3 -m venv --clear target/lint
	target/lint/bin/pip install --quiet salt-lint==0.9.2 ruff==0.14.5
	@touch $@

deb:
	@tests/need $(TOOLCHAIN) $(PACKAGING)
	packaging/build-deb
	packaging/smoke target/debian/tunnel64d.deb

# Salt itself, each version of it, is installed below target/, once.
e2e: deb
	@tests/need $(TOOLCHAIN) $(MACHINES) $(LAB)
	RUST_TEST_THREADS=2 $(CARGO) test --locked --test e2e

# Built again from nothing, elsewhere: the same bytes.
reproducible: deb
	packaging/build-deb --fresh target/e2e/built-again
	cmp target/debian/tunnel64d.deb target/e2e/built-again/tunnel64d.deb

deps:
	@tests/need $(TOOLCHAIN) $(LINTERS) $(LAB) $(SINGLE) $(BENCH) $(FUZZ) $(PACKAGING) $(MACHINES) $(SALT_LINTERS)

clean:
	rm -rf target
