package app

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/core"
)

// FuzzSettings: each kind of setting is read within its bounds and, where it is
// written again, read alike.
func FuzzSettings(f *testing.F) {
	for _, text := range []string{
		"256KiB", "4 MiB", "1000", "9223372036854775807GiB", "-1B", "90d", "12h", "36501d", "0s", "10.0.0.0/8,fc00::/7", "10.1.2.3/8", "::ffff:1.2.3.4/96",
		"a.b, c", "sealpost.x", "a.b,a.b", "INFO", "", ",",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var size byteSize
		if size.UnmarshalText([]byte(text)) == nil {
			var again byteSize
			if err := again.UnmarshalText([]byte(size.String())); err != nil || again != size || size < 0 {
				t.Fatalf("size %q is %d, written %v, read %d, %v", text, size, size, again, err)
			}
		}
		var life lifetime
		if life.UnmarshalText([]byte(text)) == nil && life <= 0 {
			t.Fatalf("lifetime %q is %v", text, life)
		}
		var nets prefixes
		if nets.UnmarshalText([]byte(text)) == nil {
			for _, p := range nets {
				if again, err := netip.ParsePrefix(p.String()); err != nil || again != p || p != p.Masked() {
					t.Fatalf("network %v of %q is read as %v, %v", p, text, again, err)
				}
			}
		}
		var types eventTypes
		if types.UnmarshalText([]byte(text)) == nil {
			seen := make(map[string]bool)
			for _, name := range types {
				if seen[name] || !core.ValidEventType(name) || core.SystemEventType(name) || strings.Contains(name, ",") {
					t.Fatalf("event types %q of %q", types, text)
				}
				seen[name] = true
			}
		}
		var level logLevel
		if err := level.UnmarshalText([]byte(text)); err != nil && level != 0 {
			t.Fatalf("level %d after %v", level, err)
		}
	})
}
