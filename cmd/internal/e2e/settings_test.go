package e2e

import (
	"net"
	"strings"
	"testing"
)

// TestRefusedVariables: a setting that cannot be used ends the program with one
// line that names its variable, before it does anything.
func TestRefusedVariables(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	busy := taken.Addr().String()
	key := "SEALPOST_MASTER_KEYS=" + newMasterKey()
	const free = "SEALPOST_ADMIN_LISTEN=127.0.0.1:0"
	for name, tt := range map[string]struct {
		program string
		env     []string
		status  int
		names   string
	}{
		"no master key":           {"gateway", nil, 2, "SEALPOST_MASTER_KEYS"},
		"no master key, sender":   {"sender", nil, 2, "SEALPOST_MASTER_KEYS"},
		"two sources":             {"gateway", []string{key, "SEALPOST_MASTER_KEYS_FILE=/dev/null"}, 2, "SEALPOST_MASTER_KEYS_FILE"},
		"duration without unit":   {"sender", []string{key, "SEALPOST_DELIVERY_TIMEOUT=15"}, 2, "SEALPOST_DELIVERY_TIMEOUT"},
		"empty duration":          {"sender", []string{key, "SEALPOST_RETRY_BASE="}, 2, "SEALPOST_RETRY_BASE"},
		"contradiction":           {"sender", []string{key, "SEALPOST_DELIVERY_TIMEOUT=10s", "SEALPOST_SHUTDOWN_TIMEOUT=9s"}, 2, "SEALPOST_SHUTDOWN_TIMEOUT"},
		"size":                    {"gateway", []string{key, "SEALPOST_MAX_PAYLOAD=lots"}, 2, "SEALPOST_MAX_PAYLOAD"},
		"truth":                   {"gateway", []string{key, "SEALPOST_ALLOW_HTTP=perhaps"}, 2, "SEALPOST_ALLOW_HTTP"},
		"nets":                    {"gateway", []string{key, "SEALPOST_ALLOW_NETS=10.0.0.0/33"}, 2, "SEALPOST_ALLOW_NETS"},
		"level":                   {"sender", []string{key, "SEALPOST_LOG_LEVEL=loud"}, 2, "SEALPOST_LOG_LEVEL"},
		"Redis":                   {"sender", []string{key, "SEALPOST_REDIS_URL=memcached://127.0.0.1"}, 2, "SEALPOST_REDIS_URL"},
		"address of the API":      {"gateway", []string{key, free, "SEALPOST_LISTEN=" + busy}, 1, "SEALPOST_LISTEN"},
		"address for operators":   {"gateway", []string{key, "SEALPOST_LISTEN=127.0.0.1:0", "SEALPOST_ADMIN_LISTEN=" + busy}, 1, "SEALPOST_ADMIN_LISTEN"},
		"sender's admin listener": {"sender", []string{key, "SEALPOST_ADMIN_LISTEN=" + busy}, 1, "SEALPOST_ADMIN_LISTEN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := run(t, tt.program, tt.env, "", "serve")
			lines := strings.Split(strings.TrimSpace(o.stderr), "\n")
			last := lines[len(lines)-1]
			if o.status != tt.status || !strings.Contains(last, tt.names) || o.stdout != "" {
				t.Errorf("%+v, want status %d and a line that names %s", o, tt.status, tt.names)
			}
			if tt.status == 2 && len(lines) != 1 {
				t.Errorf("%d lines, want one:\n%s", len(lines), o.stderr)
			}
			if strings.Contains(o.stderr, key[len(key)-20:]) {
				t.Errorf("the master key is shown: %s", o.stderr)
			}
		})
	}
}
