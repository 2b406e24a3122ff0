package core_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport is the rule of docs/ARCHITECTURE.md, "Packages": what each package
// may import directly, apart from the standard library. Only cmd/internal/app
// sees everything.
var mayImport = map[string][]string{
	"core":                 nil,
	"core/metric":          {prom},
	"core/leaktest":        {"go.uber.org/goleak"}, // for tests
	"core/frame":           {"core", "github.com/klauspost/compress/s2", "github.com/google/uuid"},
	"core/sign":            {"core"},
	"core/retry":           {"core"},
	"core/pace":            {"core"},
	"core/rawconn":         nil,
	"core/stack":           nil,
	"core/egress":          {"core", "core/rawconn", "github.com/valyala/fasthttp", "code.dny.dev/ssrf", "golang.org/x/net/idna", prom},
	"core/egress/dnstest":  {"golang.org/x/net/dns/dnsmessage"}, // for tests
	"core/queue":           {"core", "github.com/hibiken/asynq", "core/frame", "core/stack", "github.com/redis/go-redis/v9", "github.com/google/uuid", "core/metric", prom},
	"core/publish":         {"core", "core/metric", "core/rawconn", "golang.org/x/sys/unix", prom},
	"core/announce":        {"core"},
	"core/replay":          {"core"},
	"core/trial":           {"core", "core/sign", "core/retry", "core/egress"},
	"core/gateway":         {"core", "core/publish", "core/metric", "core/rawconn", "github.com/valyala/fasthttp", prom},
	"core/sender":          {"core", "core/sign", "core/retry", "core/pace", "core/egress", "core/metric", "core/stack", prom},
	"core/trace":           {"core", "go.opentelemetry.io/otel/attribute", "go.opentelemetry.io/otel/codes", "go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp", "go.opentelemetry.io/otel/sdk/resource", "go.opentelemetry.io/otel/sdk/trace", "go.opentelemetry.io/otel/trace", prom},
	"core/trace/tracetest": {"core"}, // for tests
	"redisstore":           {"core", "core/frame", "core/metric", "core/rawconn", "github.com/redis/go-redis/v9", "github.com/redis/go-redis/v9/maintnotifications", prom},
	"cmd/internal/e2e":     nil, // tests only
	"dashboards":           nil,
	"cmd/gateway":          {"cmd/internal/app"},
	"cmd/sender":           {"cmd/internal/app"},
	"redisstore/redistest": {"github.com/redis/go-redis/v9"},
}

const (
	module = "github.com/sealpost/sealpost/"
	prom   = "github.com/prometheus/client_golang/prometheus"
)

func TestImports(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	judged := make(map[string]bool)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		name := strings.TrimPrefix(fields[0], module)
		allowed, listed := mayImport[name]
		switch {
		case listed:
		case name == "cmd/internal/app" || strings.HasPrefix(name, "cmd/internal/app/") || strings.HasPrefix(name, "bench"),
			name == "dashboards/picture": // for the documents
			continue
		default:
			t.Errorf("%s is not in the table: say what it may import", name)
			continue
		}
		judged[name] = true
		for _, imp := range fields[1:] {
			if root, _, _ := strings.Cut(imp, "/"); !strings.Contains(root, ".") {
				continue // standard library
			}
			if !slices.ContainsFunc(allowed, func(a string) bool {
				return imp == a || imp == module+a || a == prom && strings.HasPrefix(imp, prom+"/")
			}) {
				t.Errorf("%s imports %s, which its row in the table does not allow", name, imp)
			}
		}
	}
	if !judged["core"] {
		t.Error("core itself was not judged: the listing is not what this test expects")
	}
}
