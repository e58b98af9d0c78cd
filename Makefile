# Seamark. `make help` lists what there is; `make demo` and `make test` work on a bare Debian 12 with Go, as root.

SHELL     := /bin/bash
.DEFAULT_GOAL := help
# Labs measure time, and compilers take all processors: one thing after the other, also with -j.
.NOTPARALLEL:
VERSION   ?= v0.1.0
GO        ?= go
# Without DWARF, which LDFLAGS would strip, compilers take a sixth less time. Programs, the lab's artifacts and the tests in it
# share what they have compiled as long as all have these flags (integration/artifacts has them too).
GOFLAGS   ?= -trimpath -gcflags=all=-dwarf=false
export CGO_ENABLED ?= 0

CONTROLLER_GEN := $(GO) run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.20.0
GOLANGCI_LINT  := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.6.0
LDFLAGS   := -s -w -X k8s.io/component-base/version.gitVersion=$(VERSION)

# Of `make e2e`: which parts run in the lab, and which specs.
LAB_PROXY ?= seamark
LAB_DNS   ?= seamark
LAB_LB    ?= $(if $(filter seamark,$(LAB_PROXY) $(LAB_DNS)),seamark,none)
FOCUS     ?=
SKIP      ?=

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^## / {printf "\n%s\n", substr($$0, 4)} /^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## See it work
.PHONY: demo demo-down
demo: packages images bin/demo bin/lab ## A real cluster, a Service of type LoadBalancer, a failover: about two minutes once built. KEEP=1 leaves it running
	bin/demo up $(if $(KEEP),--keep)
demo-down: bin/demo ## Remove what KEEP=1 left running
	bin/demo down

## Build
.PHONY: build images artifacts packages
build: bin/seamark-controller bin/seamark-node ## The static binaries, in bin/
images: bin/images/seamark-controller.tar bin/images/seamark-node.tar ## OCI archives of both images, without Docker, in bin/images/
artifacts: bin/lab ## Kubernetes and the images of the lab's pods, where they are not in the cache yet
	bin/lab build --images agnhost
packages: ## Install the Debian packages that the lab and the tests need
	hack/install-packages

# Go knows better than make what has changed.
.PHONY: FORCE
FORCE:
bin/seamark-controller bin/seamark-node: bin/%: FORCE
	@echo "build $@"
	@$(GO) build $(GOFLAGS) -ldflags '$(LDFLAGS)' -o $@ ./cmd/$*
bin/bench bin/demo bin/e2e bin/image bin/lab bin/outputs: bin/%: FORCE
	@echo "build $@"
	@$(GO) -C integration build $(GOFLAGS) -o ../$@ ./cmd/$*
bin/images/seamark-controller.tar bin/images/seamark-node.tar: bin/images/seamark-%.tar: bin/seamark-% bin/image manifests/images/%/Dockerfile
	@mkdir -p $(@D)
	bin/image -f manifests/images/$*/Dockerfile -t ghcr.io/seamark-io/seamark-$*:$(VERSION) -o $@ .

## Test
.PHONY: test unit lab-tests scenarios e2e e2e-listed fuzz bench bench-provider bench-failover
test: packages unit lab-tests scenarios e2e-listed ## Everything: unit tests, the lab's own, scenarios in it, upstream e2e

unit: ## Unit tests of both modules, with the race detector; what passed and has not changed, go does not run again
	GO='$(GO)' hack/unit-tests $(GOFLAGS)
	$(GO) test $(GOFLAGS) -count=1 -v -run '^TestAgainstOracle$$' ./provider/ipam # again, faster, and to be seen: seeds, steps, what came up
	CGO_ENABLED=1 $(GO) -C integration test -race $$($(GO) -C integration list ./... | grep -v /scenarios)

lab-tests: images artifacts ## The lab itself: what up makes, and that down leaves nothing, also after a crash; the manuals in another
	SEAMARK_LAB_TESTS=t $(GO) -C integration test $(GOFLAGS) -count=1 -timeout 15m -p 1 -v ./lab ./manual

scenarios: images artifacts ## What users do, in a lab of three nodes
	$(GO) -C integration test $(GOFLAGS) -count=1 -timeout 30m -v ./scenarios

e2e-listed: images bin/e2e ## The upstream specs that Seamark's proxy, DNS and load balancer are known to pass
	bin/e2e run --proxy seamark --dns seamark --lb seamark --list integration/e2e/seamark.txt

e2e: $(if $(filter seamark,$(LAB_LB)),images) bin/e2e ## Upstream e2e specs: LAB_PROXY=seamark|kube-proxy LAB_DNS=seamark|coredns FOCUS=… SKIP=…
	bin/e2e run --proxy $(LAB_PROXY) --dns $(LAB_DNS) --lb $(LAB_LB) $(if $(FOCUS),--focus '$(FOCUS)') $(if $(SKIP),--skip '$(SKIP)')

.PHONY: model
model: packages ## Check the model of fencing, docs/models/fencing.pml, with spin
	hack/model

FUZZTIME ?= 10s
fuzz: ## Each fuzz target for FUZZTIME (10s)
	hack/fuzz $(FUZZTIME)

bench: ## Benchmarks of the pure packages and drivers; compare runs with benchstat
	$(GO) test -run '^$$' -bench . -benchmem ./...

bench-provider: packages images bin/bench bin/lab ## Giving out addresses, in a lab, beside its targets; writes docs/benchmarks/provider.*
	bin/bench provider --out docs/benchmarks/provider.md

bench-failover: packages images bin/bench bin/lab ## Failover, in a lab, beside its targets and keepalived; writes docs/benchmarks/failover.*
	bin/bench failover --out docs/benchmarks/failover.md

## Keep it in order
PAGES := docs/pools.md
.PHONY: lint generate docs-outputs verify clean
lint: ## go vet, golangci-lint, go mod tidy
	for module in . integration integration/cmd/kube integration/images/coredns; do $(GO) -C $$module vet $(GOFLAGS) ./... || exit 1; done
	$(GOLANGCI_LINT) run ./...
	cd integration && $(GOLANGCI_LINT) run ./...
	for module in . integration integration/cmd/kube integration/images/coredns; do $(GO) -C $$module mod tidy -diff || exit 1; done

generate: ## Deep copies and CRDs, from api/
	$(CONTROLLER_GEN) object paths=./api/... crd:crdVersions=v1 output:crd:dir=manifests/crds

docs-outputs: packages images bin/outputs bin/lab ## Run the commands in the documentation in a lab, and write what they print
	bin/outputs $(PAGES)

verify: generate ## Fail if something generated is not what is committed
	git diff --exit-code -- api manifests

clean: ## Remove bin/
	rm -rf bin
