# Every command that the README names. `make` alone lists them.
SHELL := bash
PYTHON ?= python3
UV ?= .venv/bin/uv
MEMBERS := kit plan cli operator archive $(sort $(wildcard services/*))
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Each process that a test starts would compile the sources again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: unit-test integration-test browser-test chaos-test coverage changelog packages push site fuzz operator-test test-fast security-test help venv lock contracts docs lint types test chaos cancellations soak run demo coupling sparse tools bench charts chart-test chart-security doctor images server-images sbom e2e e2e-images e2e-backends e2e-keda audit pins digests image-pins pictures

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: .venv/.ready ## the Python environment, exactly as requirements.lock has it
.venv/.ready: requirements.lock pyproject.toml $(addsuffix /pyproject.toml,$(MEMBERS))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %s: make PYTHON=/path/to/python3.11" % sys.version.split()[0])'
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@test -x .venv/bin/uv || .venv/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	@VIRTUAL_ENV=$(CURDIR)/.venv $(UV) pip install --quiet --compile-bytecode --require-hashes --requirement requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/.venv $(UV) pip install --quiet --no-deps $(addprefix --editable ./,$(MEMBERS))
	@touch $@

lock: ## pin every dependency anew into requirements.lock
	uv pip compile pyproject.toml --group pyproject.toml:dev $(addsuffix /pyproject.toml,$(MEMBERS)) --all-extras \
		--universal --generate-hashes $(OWN) --no-annotate --no-header --quiet --output-file requirements.lock
	uv pip compile $(addsuffix /pyproject.toml,kit plan archive $(sort $(wildcard services/*))) images/services.in \
		--extra fastapi --extra sql --extra otlp $(SUBSET) --output-file images/services.lock
	uv pip compile $(addsuffix /pyproject.toml,kit plan operator) $(SUBSET) --output-file images/operator.lock
	uv pip compile images/nats.in $(SUBSET) --output-file images/nats.lock
	uv pip compile images/debugger.in --universal --generate-hashes --no-annotate --no-header --quiet --output-file images/debugger.lock

OWN := --no-emit-package tidings --no-emit-package tidings-plan --no-emit-package tidings-cli
SUBSET := --constraint requirements.lock --universal --generate-hashes $(OWN) --no-annotate --no-header --quiet

site: venv ## the documentation site, strictly, into .run/site/html: broken links, lost anchors, pages without a place
	python docs/site.py
	zensical build --strict --clean --config-file .run/site/zensical.toml

lint: venv ## style, imports between layers, workflows: every hook of .pre-commit-config.yaml
	pre-commit run --all-files --show-diff-on-failure

types: venv ## mypy strict over every member and the tests
	mypy kit/src plan/src cli/src operator/src archive/src
	mypy tests simulators docs/reference/generate.py
	mypy changes/changelog.py
	mypy docs/site.py
	cd scenarios && mypy *.py
	cd .ci && mypy pinning.py
	cd bench && MYPYPATH=$(CURDIR) mypy *.py
	for service in $(wildcard services/*); do MYPYPATH=$$service/src mypy $$service/src || exit 1; done

contracts: venv ## write every service's schema files anew from its classes
	tidings export tidings_archive.events --folder archive/contracts/schemas
	for service in $(patsubst services/%/contracts/events.yaml,%,$(wildcard services/*/contracts/events.yaml)); do \
		tidings export $$service.events --folder services/$$service/contracts/schemas || exit 1; done

changelog: venv ## merge changes/*.md into CHANGELOG.md (VERSION=1.2.3)
	python changes/changelog.py release "$(VERSION)"

packages: venv ## wheels and charts of a release, in dist/
	for member in tidings tidings-plan tidings-cli tidings-operator tidings-archive; do uv build --quiet --package $$member --out-dir dist || exit 1; done
	for chart in tidings pizza; do "$$(tidings tools helm | cut -f 2)" package charts/$$chart --destination dist || exit 1; done

docs: venv ## write the generated pages of docs/reference anew
	python -m docs.reference.generate

tools: venv ## daprd and whatever else the local run needs, found or built
	@tidings tools

# Most of the time goes by waiting for programs: more workers than cores share it (WORKERS=… sets how many).
# SEED repeats the generated examples.
SEED := $(or $(SEED),$(shell date +%s))
# A test that calls make is no part of this one: the jobs and variables of `make test` are not for it.
PYTEST = MAKEFLAGS= pytest --hypothesis-seed=$(SEED)
# On two cores, one part keeps them busy: parts side by side take as long, and tests wait for each other's programs.
PARTS := $(or $(UNIT),unit-test) chart-test security-test integration-test operator-test browser-test chaos-test
test: venv tools ## everything but the cluster; .run/tests has what the parts print (JOBS=3 for three parts side by side, UNIT=coverage)
	@tidings tools helm kube-apiserver kubectl etcd
	@mkdir -p .run/tests
	@$(MAKE) --no-print-directory --jobs=$(or $(JOBS),1) --keep-going $(PARTS:%=part-%)

# A failure is named at once, and shown when its part ends. Ctrl-C ends pytest, which then writes its summary.
part-%:
	@echo "$$(date +%T) $* started"
	@set -o pipefail; log=.run/tests/$*.log; \
	$(MAKE) --no-print-directory $* PYTEST='$(PYTEST) --verbose' 2>&1 \
		| (trap '' INT; tee $$log | grep --line-buffered -E ' (FAILED|ERROR) ' || true); code=$$?; \
	[ $$code = 0 ] || grep -v ' PASSED ' $$log; \
	echo "$$(date +%T) $* ended:"; grep -E '^(SKIPPED|=+ .* in [0-9.]+s)' $$log; exit $$code

UNIT_TESTS = $(PYTEST) tests/unit tests/contract -n $(or $(WORKERS),3) -p no:schemathesis
test-fast: venv ## unit and contract tests only, with a part of the generated examples: the inner loop
	$(UNIT_TESTS) --hypothesis-profile=fast

unit-test: venv ## unit and contract tests
	$(UNIT_TESTS)

# These tests alone reach the limit; on real programs, measuring would cost more time than it adds.
coverage: venv ## the same tests, and what they have covered: fails below the limit in pyproject.toml
	$(UNIT_TESTS) --cov

chart-test: venv ## charts and images: drift, what helm renders, and Kubernetes' schemas
	@tidings tools helm
	$(PYTEST) tests/charts -n 2 --dist loadfile

security-test: venv tools ## one test per attack, and a short run of the fuzzers
	$(PYTEST) tests/security tests/fuzz -n $(or $(WORKERS),4)

integration-test: venv tools ## the kit and the services on real programs
	@tidings tools helm
	$(PYTEST) tests/integration -n $(or $(WORKERS),4) --dist loadfile

operator-test: venv ## the operator on a real kube-apiserver and etcd, which are built where they are missing
	@tidings tools kube-apiserver kubectl etcd
	$(PYTEST) tests/operator -n $(or $(WORKERS),4) --dist loadfile

browser-test: venv tools ## the pages in Chromium, and the commands of README and tutorial
	$(PYTEST) tests/e2e -n 2 --dist loadfile --ignore tests/e2e/cluster

chaos-test: venv tools ## kill each service and each sidecar once while orders flow
	$(PYTEST) tests/chaos/test_kill_each.py

fuzz: venv ## a million odd events through the twin, and every HTTP API by its description (DELIVERIES=…, EXAMPLES=…)
	FUZZ_DELIVERIES=$(or $(DELIVERIES),1000000) $(PYTEST) tests/fuzz -n 2
	FUZZ_EXAMPLES=$(or $(EXAMPLES),500) $(PYTEST) tests/security/test_fuzz_apis.py -n 2

chaos: venv tools ## kill, cut off and stop every part while orders and numbered events flow
	pytest tests/chaos

run: venv tools ## the whole system on this machine; Ctrl-C stops it (BROKER=redis for Redis Streams)
	@tidings up $(if $(BROKER),--broker $(BROKER)) || [ $$? = 130 ] # Ctrl-C is how it ends

demo: venv tools ## a burst of orders, each one's way and times (ORDERS=200)
	python scenarios/demo.py --orders $(or $(ORDERS),200)

coupling: venv ## stop loyalty, and count the orders accepted by events and in the coupled mode
	python scenarios/coupling.py

sparse: venv tools ## compare fat and sparse events with 1 to 10 readers; writes the plot in docs (READERS=1,2,5,10 ORDERS=20 ROUNDS=3)
	python scenarios/sparse.py --readers $(or $(READERS),1,2,5,10) --orders $(or $(ORDERS),20) --rounds $(or $(ROUNDS),3) --write

CANCELLED = cancelled_deliveries or cancelled_transaction or cancelled_calls or are_cancelled_leave
cancellations: venv tools ## ROUNDS=100000 cancellations at random moments in each test of that kind: what stays behind?
	TIDINGS_CANCELLATIONS=$(or $(ROUNDS),100000) $(PYTEST) tests/unit tests/integration -k "$(CANCELLED)" \
		-n 2 $(if $(wildcard /dev/shm),--basetemp=/dev/shm/tidings-cancellations)

soak: venv tools ## EVENTS=1000000 events through it all with kills on the way; goes on where it was stopped
	python scenarios/soak.py $(if $(EVENTS),--events $(EVENTS))

bench: venv tools ## what the kit costs, against its peers; writes docs/reference/benchmarks.md
	python bench/run.py

charts: venv ## write anew what the charts hold of the contracts, components, CRDs and values
	python charts/sync.py

chart-security: venv ## checkov over the rendered charts; exceptions stand in charts/.checkov.yaml
	python charts/rendered.py .run/rendered
	uv tool run --quiet checkov@3.3.30 --config-file charts/.checkov.yaml --directory .run/rendered

pins: venv ## the checksums of every program that is downloaded or built, after a version has changed
	python .ci/pinning.py

audit: venv ## known vulnerabilities in what requirements.lock pins
	.ci/audit

pictures: venv tools ## docs/images anew, from a system that is started for it (Chromium on PATH)
	python scenarios/pictures.py

doctor: venv ## is here what the cluster needs; if not, what mends it
	tidings doctor --cluster

e2e: venv $(if $(REPOSITORY),,e2e-images) ## both charts on kind; another cluster must be named: CONTEXT=… REPOSITORY=registry/of/images
	E2E_CONTEXT=$(or $(CONTEXT),current) E2E_REPOSITORY=$(or $(REPOSITORY),plant-based-pizza) E2E_TAG=$(TAG) pytest -s tests/e2e/cluster

e2e-images: venv images server-images ## the images of `make e2e`, onto a kind cluster
	$(IMAGES) --build-arg BASE=plant-based-pizza/orders:$(TAG) -f tests/e2e/cluster/numbered.Dockerfile \
		-t plant-based-pizza/numbered:$(TAG) tests/chaos/numbered/services
	docker build $(DOCKER_BUILD) -f tests/e2e/cluster/foreign/billing.Dockerfile \
		-t plant-based-pizza/foreign-billing:$(TAG) tests/e2e/data/node/billing
	docker build $(DOCKER_BUILD) -f tests/e2e/cluster/foreign/crm.Dockerfile \
		-t plant-based-pizza/foreign-crm:$(TAG) tests/e2e/cluster/foreign
	python tests/support/livecluster.py $(or $(CONTEXT),current) $(patsubst %,plant-based-pizza/%:$(TAG),operator archive simulators $(SERVERS) numbered foreign-billing foreign-crm $(notdir $(wildcard services/*)))

BACKENDS := rabbitmq:3.10.8 apache/kafka:4.4.0
e2e-backends: venv ## RabbitMQ and Kafka under the published names, onto a kind cluster that reaches no registry
	rm -rf .run/backends && mkdir -p .run && cp -r tests/e2e/cluster/images .run/backends && cp -rL "$$(tidings tools kafka | cut -f 2)" .run/backends/jars
	for image in $(BACKENDS); do name=$${image##*/}; \
		docker build $(DOCKER_BUILD) -f .run/backends/$${name%:*}.Dockerfile -t $$image .run/backends || exit 1; done
	python tests/support/livecluster.py $(or $(CONTEXT),current) $(BACKENDS)

KEDA := $(shell sed -n 's/^KEDA = "\(.*\)"$$/\1/p' tests/support/definitions.py)
KEDA_IMAGES := $(addsuffix :$(lastword $(subst @v, ,$(KEDA))),ghcr.io/kedacore/keda ghcr.io/kedacore/keda-metrics-apiserver)
e2e-keda: venv ## KEDA, built from the Go module proxy, onto a kind cluster that reaches no registry
	bash tests/e2e/cluster/images/keda.sh $(KEDA) .run/keda
	docker build $(DOCKER_BUILD) -f tests/e2e/cluster/images/keda.Dockerfile $(KEDA_IMAGES:%=-t %) .run/keda
	python tests/support/livecluster.py $(or $(CONTEXT),current) $(KEDA_IMAGES)

# BASE names another base image, TAG another tag, DOCKER_BUILD further options of `docker build`.
IMAGES = docker build $(DOCKER_BUILD) $(if $(BASE),--build-arg BASE=$(BASE)) --build-arg REVISION=$$(git rev-parse --short HEAD)
TAG ?= 0.1.0
DOCKER_BUILD ?= --network host
PREFIX = $(or $(REPOSITORY),plant-based-pizza)
images: ## build every image (REPOSITORY=…, BASE=…, TAG=…, DOCKER_BUILD=options of docker build)
	$(IMAGES) -f images/operator.Dockerfile -t $(PREFIX)/operator:$(TAG) .
	$(IMAGES) -f images/simulators.Dockerfile -t $(PREFIX)/simulators:$(TAG) .
	$(IMAGES) -f images/archive.Dockerfile -t $(PREFIX)/archive:$(TAG) .
	for service in $(notdir $(wildcard services/*)); do \
		$(IMAGES) -f images/service.Dockerfile --build-arg SERVICE=$$service -t $(PREFIX)/$$service:$(TAG) . || exit 1; done

push: venv ## push every image to REPOSITORY; .run/images has their digests
	mkdir -p .run/images && rm -f .run/images/*
	for name in operator archive simulators $(notdir $(wildcard services/*)); do \
		docker push --quiet $(PREFIX)/$$name:$(TAG) && docker inspect --format '{{index .RepoDigests 0}}' $(PREFIX)/$$name:$(TAG) \
		| sed -E 's/(.*)@sha256:(.*)/\2  \1/' >> .run/images/all.sha256 || exit 1; done
	grep '/operator$$' .run/images/all.sha256 > .run/images/operator.sha256
	grep -v '/operator$$' .run/images/all.sha256 > .run/images/services.sha256

digests: venv ## values that pin the project's images by digest: .run/digests/digests-{tidings,pizza}.yaml (REPOSITORY=… TAG=…; needs crane)
	rm -rf .run/digests
	python charts/digests.py images $(or $(REPOSITORY),plant-based-pizza) $(TAG) .run/digests

image-pins: venv ## the present digests of the images of others, in charts/pizza/values.yaml and images/base.txt (needs crane)
	python charts/digests.py pins
	python charts/sync.py

# A cluster that reaches no registry cannot have the published images, which the chart names by their digests.
SERVERS := nats redis postgres
server-images: ## NATS, Redis and PostgreSQL as images, for a cluster that reaches no registry (charts/pizza/values-local.yaml)
	for server in $(SERVERS); do docker build $(DOCKER_BUILD) -f images/$$server.Dockerfile -t plant-based-pizza/$$server:$(TAG) . || exit 1; done

sbom: venv ## what the images hold, as CycloneDX: .run/sbom/{services,operator}.cdx.json
	mkdir -p .run/sbom
	for lock in services operator; do uv tool run --quiet --from cyclonedx-bom@7.5.0 cyclonedx-py requirements images/$$lock.lock \
		--output-reproducible --output-file .run/sbom/$$lock.cdx.json || exit 1; done

bench-operator: venv ## the operator among hostile resources, and at 500 to 10,000 subscriptions against its peer, in at most 30 minutes; writes their pages
	python bench/operator_hostile.py
	python bench/operator_scale.py
