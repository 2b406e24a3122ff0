package top

import (
	"slices"
	"strings"
	"testing"
)

// FuzzParse: of the metrics that a process answers only those that are shown are
// kept, as many as there are lines at most.
func FuzzParse(f *testing.F) {
	known := append(gatewayMetrics(), senderMetrics()...)
	f.Add("# TYPE " + known[0] + " counter\n" + known[0] + "{route=\"/events\"} 1\n")
	f.Add("# TYPE x histogram\nx_bucket{le=\"+Inf\"} NaN\nx_sum 1\nx_count 2\n")
	f.Add(known[0] + " 1e400\n")
	f.Add("{\"a\"} 1 \n#\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parse(text)
		if err != nil {
			return
		}
		n := 0
		for name, all := range m {
			if n += len(all); !slices.Contains(known, name) {
				t.Fatalf("kept %q", name)
			}
		}
		if most := strings.Count(text, "\n") + 1; n > most {
			t.Fatalf("%d series of %d lines", n, most)
		}
	})
}
