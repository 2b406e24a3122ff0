# Sealpost. `make` lists the targets.

GO       ?= go
VERSION  := $(shell sed -n 's/^const Version = "\(.*\)"/\1/p' core/doc.go)
TOOLS    := .ci/tools/go.mod

.DEFAULT_GOAL := help
.PHONY: help run build test test-short check bench chaos fuzz dashboards clean

help: ## list the targets
	@echo "Sealpost $(VERSION)"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

run: build ## build, then run gateway, sender, Redis and a sample endpoint in one process
	@bin/gateway dev

build: ## build bin/gateway and bin/sender, static
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o bin/ ./cmd/gateway ./cmd/sender

test: ## everything that proves the project, with the race detector (installs redis-server and the like where missing)
	@bash .ci/test-tools
	$(GO) test -race -timeout 15m $$($(GO) list ./... | grep -v /bench)
	$(GO) test -timeout 10m -p 1 ./bench/... # alone: its load would slow the others down
	$(GO) test -run Alloc ./core/... # budgets that the race detector would exceed
	$(GO) test ./core/rawconn # whose system calls are others under the race detector

test-short: ## unit tests only, without the race detector
	@bash .ci/test-tools
	$(GO) test -short -timeout 5m ./...

check: ## gofmt, go vet, staticcheck and a tidy go.mod
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) tool -modfile=$(TOOLS) staticcheck ./...
	$(GO) mod tidy -diff

BENCH ?=
bench: build ## the load test: every scenario, or BENCH='--scenario single --duration 5s'
	$(GO) build -o bin/bench ./bench
	bin/bench $(BENCH)

CHAOS ?=
chaos: build ## the fault suite: every fault, or CHAOS='--fault sender-kill,soak --seed 7'; --list tells them
	$(GO) build -o bin/chaos ./bench/chaos
	bin/chaos $(CHAOS)

FUZZTIME ?= 20s
fuzz: ## run every fuzz target for FUZZTIME (20s)
	@for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "== $$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

dashboards: ## make docs/METRICS.md, Grafana's JSON, the objectives' rules and the pictures in docs anew
	$(GO) test ./cmd/internal/app -run MetricsAreDocumented -update
	$(GO) test ./dashboards -run UpToDate -update
	$(GO) test ./cmd/internal/e2e -run TestDashboards -pictures $(CURDIR)/docs/dashboards

clean: ## remove what was built
	rm -rf bin bench/out
