# Two commands do all on a fresh Debian 12 machine (root, Python 3.11, Go): `make demo` and `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
CACHE := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/vk-provider
VENV := $(CACHE)/venv-$(shell sha256sum pyproject.toml | cut -c1-12)
PY := $(VENV)/bin/python
export PYTHONPATH := $(CURDIR)
export PYTHONDONTWRITEBYTECODE := 1
# sudo has a PATH of its own, without the place where https://go.dev/doc/install puts Go.
export PATH := $(PATH):/usr/local/go/bin

CLOUD ?= local
PROCS ?= 4
FOCUS ?=
SKIP ?=
RESULTS ?=
SEED ?=
SEEDS ?= 1000
FAULT ?=
KILLED_AT ?=
MESSAGES ?= 10000
EVERY ?=
CRASHES ?=
PAIRS ?= 500
CASES ?=
ONLY ?=
RECORD ?=
REPLAY ?=
KEEP ?=
LABEL ?= NodeConformance && Conformance && !Serial && !Disruptive && !Slow

.PHONY: help
help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 24

.PHONY: preflight
preflight:
	@[ "$$(id -u)" = 0 ] || { echo "error: root is needed for namespaces and packages; next: sudo make $(MAKECMDGOALS)" >&2; exit 3; }

# The name holds a hash of pyproject.toml, so there is nothing to compare times with: other checkouts use it, too.
# Messages go to stderr: `make -s demo-kubeconfig` prints a path and nothing else.
$(VENV)/.ready:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "error: Python 3.11 or newer is needed; next: apt-get install python3 python3-venv, or PYTHON=/path/to/python3.11" >&2; exit 3; }
	@echo "installing the Python packages of pyproject.toml into $(VENV) (half a minute)" >&2
	@mkdir -p $(CACHE)
	@$(PYTHON) -m venv $(VENV) || { echo "error: no venv; next: apt-get install python3-venv" >&2; exit 3; }
	@$(PY) -c 'import tomllib, shlex; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; e = p["optional-dependencies"]; print("\n".join(p["dependencies"] + e["provider"] + e["aws"] + e["dev"]))' > $(VENV)/requirements.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check -r $(VENV)/requirements.txt \
	  || { echo "error: pip could not install them; next: check the network (or PIP_INDEX_URL) and the lines above, then run make again" >&2; exit 3; }
	@$(PY) -m tests.cluster.prune venvs
	@touch $@

.PHONY: deps
deps: preflight $(VENV)/.ready ## install what is needed: Debian packages, Python packages
	@$(PY) -m tests.cluster.packages install

.PHONY: control-plane
control-plane: deps ## build the control plane once (or take it from PATH or KUBEBUILDER_ASSETS)
	@$(PY) -m tests.cluster.binaries

.PHONY: demo
demo: control-plane ## a cluster with a nodeless node on this machine, shown with kubectl (CLOUD=simulated: any image name; CLOUD=aws: EC2 as a moto server plays it, whose instances boot)
	@$(PY) -m tests.demo demo --cloud $(CLOUD)

.PHONY: demo-up
demo-up: control-plane ## the same cluster without the showcase
	@$(PY) -m tests.demo up --cloud $(CLOUD) $(if $(DUAL_STACK),--dual-stack)

.PHONY: demo-mixed
demo-mixed: control-plane ## the same cluster with a real kubelet beside it: nodes nodeless and kubelet
	@$(PY) -m tests.cluster.build kubelet
	@$(PY) -m tests.demo up --cloud $(CLOUD) --mixed

.PHONY: demo-istio
demo-istio: istio ## the same cluster with the real Istio in it, shown with kubectl and istioctl (the first time: 6 more minutes of builds on one core)
	@$(PY) -m tests.demo istio

# Not a part of `make test`: its builds alone would take a fifth of the time that CI has.
.PHONY: test-istio
test-istio: istio ## the tests of Istio on nodeless instances (builds as demo-istio, then some minutes)
	@$(PY) -m pytest tests/mesh

.PHONY: istio
istio: control-plane
	@$(PY) -m tests.cluster.build agnhost pilot-discovery pilot-agent istioctl

.PHONY: demo-metrics
demo-metrics: preflight $(VENV)/.ready ## metrics-server beside the demo, so that `kubectl top` works
	@$(PY) -m tests.demo metrics

.PHONY: demo-hpa
demo-hpa: preflight $(VENV)/.ready ## a Deployment of the demo scaled by its load, from 1 to 5 and back: pods, instances and USD an hour
	@$(PY) -m tests.demo hpa

.PHONY: demo-down
demo-down: preflight $(VENV)/.ready ## take the demo away: processes, namespaces, mounts, bridge, cgroups, files
	@$(PY) -m tests.demo down

.PHONY: demo-kubeconfig
demo-kubeconfig: $(VENV)/.ready ## print the path of the demo's kubeconfig
	@$(PY) -m tests.demo kubeconfig

.PHONY: demo-registry
demo-registry: $(VENV)/.ready ## print host:port of the demo's image registry
	@$(PY) -m tests.demo registry

.PHONY: lint
lint: $(VENV)/.ready ## ruff (format and rules), mypy, import contracts
	@$(VENV)/bin/ruff format --check vk_provider tests
	@$(VENV)/bin/ruff check vk_provider tests
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

.PHONY: unit
unit: $(VENV)/.ready ## the tests that need no root and no builds
	@$(PY) -m pytest tests/unit

.PHONY: test
test: deps lint control-plane ## the whole test suite, as .ci/run calls it
	@$(PY) -m tests.suite

.PHONY: simulate
simulate: $(VENV)/.ready ## the provider in virtual time against faults of everything around it (SEEDS=; SEED= for one, with KILLED_AT= or EVERY= steps; CRASHES=all kills it at every step of launches, ends, pools, interruptions and prepared images, and at every call of EC2; FAULT= puts a known one back)
	@$(PY) -m tests.simulation $(if $(SEED),--seed $(SEED) $(if $(EVERY),--every $(EVERY),--trace),--seeds $(SEEDS)) $(if $(KILLED_AT),--killed-at $(KILLED_AT)) $(if $(CRASHES),--crashes $(CRASHES)) $(if $(FAULT),--fault $(FAULT))
	@$(if $(filter all,$(CRASHES)),CRASHES=all $(PY) -m pytest -q tests/integration/aws/test_crashes.py)

.PHONY: hostile
hostile: control-plane ## the tests of agents that lie and attack, with ten times as many messages on real sessions as `make test` (MESSAGES=)
	@VK_HOSTILE_MESSAGES=$(MESSAGES) $(PY) -m pytest tests/hostile

.PHONY: containerd2
containerd2: deps ## build containerd 2 once from its Go module; prints what to put first on PATH to use it for instances
	@set -o pipefail; $(PY) -m tests.cluster.build containerd shim-runc-v2 ctr | xargs -n 1 dirname | paste -sd :

.PHONY: test-containerd2
test-containerd2: control-plane ## the tests that run containers, with containerd 2 in the place of the distribution's
	@first=$$($(MAKE) -s containerd2) && PATH="$$first:$$PATH" $(PY) -m pytest \
	  tests/contract tests/integration/local_cloud tests/integration/agent tests/e2e

.PHONY: conformance
conformance: control-plane ## Kubernetes' own specs on a cluster of their own (FOCUS= SKIP= LABEL= PROCS= RESULTS= DUAL_STACK=1); call again to resume
	@$(PY) -m tests.cluster.build e2e ginkgo agnhost containerd shim-runc-v2 ctr
	@$(PY) -m tests.conformance --own-cluster --procs $(PROCS) --label-filter '$(LABEL)' $(if $(FOCUS),--focus '$(FOCUS)') $(if $(SKIP),--skip '$(SKIP)') $(if $(RESULTS),--results '$(RESULTS)') $(if $(DUAL_STACK),--dual-stack)

.PHONY: conformance-down
conformance-down: preflight $(VENV)/.ready ## take away the cluster that an interrupted `make conformance` has left
	@$(PY) -m tests.conformance --down $(if $(DUAL_STACK),--dual-stack)

.PHONY: differential
differential: control-plane ## the same random pods on this node and a real kubelet, compared (SEED= PAIRS= CASES=dir RECORD=dir REPLAY=file KEEP=1; FAULT=name or all puts known ones back, without a kubelet)
	@$(if $(FAULT),,$(PY) -m tests.cluster.build kubelet agnhost)
	@$(PY) -m tests.differential --pairs $(PAIRS) $(if $(SEED),--seed $(SEED)) $(if $(CASES),--cases $(CASES)) $(if $(RECORD),--record $(RECORD)) $(if $(REPLAY),--replay $(REPLAY)) $(if $(KEEP),--keep) $(if $(FAULT),--fault $(FAULT))

.PHONY: differential-down
differential-down: preflight $(VENV)/.ready ## take away the cluster that an interrupted `make differential` has left
	@$(PY) -m tests.differential --down

# Not a part of `make test`: building the kubelet alone takes longer than CI has left.
.PHONY: test-mixed
test-mixed: control-plane ## Services, names and policies over a nodeless node and a real kubelet, from each (some minutes, and the kubelet's build)
	@$(PY) -m tests.cluster.build kubelet agnhost coredns
	@$(PY) -m pytest tests/mixed

.PHONY: bench
bench: control-plane ## measure (ONLY="network burst": these alone), write tests/bench/RESULTS.md
	@$(PY) -m tests.cluster.build kubelet
	@$(PY) -m tests.bench $(if $(ONLY),--only $(ONLY))

.PHONY: bench-images
bench-images: control-plane ## starts of pods by what was done for their image before, beside a real kubelet (10 minutes); a section of tests/bench/RESULTS.md
	@$(PY) -m tests.cluster.build kubelet
	@$(PY) -m tests.bench --only images

.PHONY: bench-mesh
bench-mesh: istio ## a request, bytes and a start with Istio's sidecar, beside a real kubelet (builds as demo-istio, then 5 minutes); a section of tests/bench/RESULTS.md
	@$(PY) -m tests.cluster.build kubelet
	@$(PY) -m tests.bench --only mesh

.PHONY: bench-ec2
bench-ec2: control-plane ## what launches on EC2 cost, on moto's server; writes tests/bench/RESULTS-EC2.md
	@$(PY) -m tests.bench.ec2

.PHONY: reference
reference: $(VENV)/.ready ## make REFERENCE.md of the code: settings, events, conditions, names, metrics
	@$(PY) -m tests.reference

# Not a part of `make test`: a browser is 400 MB of packages.
.PHONY: screenshot
screenshot: $(VENV)/.ready ## the provider's page in a real browser (chromium), in light and dark; renews its pictures
	@$(PY) -m tests.screenshot

.PHONY: stubs
stubs: $(VENV)/.ready ## generate the CRI stubs again from the published cri-api module
	@PYTHON=$(PY) vk_provider/agent/cri/generate.sh
