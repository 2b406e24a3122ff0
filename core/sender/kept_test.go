package sender

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
)

// kept returns what every record has kept, in order.
func (s *stubStore) kept() []core.Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	var kept []core.Delivery
	for _, r := range s.records {
		kept = append(kept, r.Kept...)
	}
	return kept
}

// What was delivered is kept where that is asked for, and nothing else is.
func TestKeepDelivered(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		keep bool
		want []string
	}{
		{name: "kept", keep: true, want: []string{"whd_000", "whd_002"}},
		{name: "not asked for"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, func(o *Options) { o.KeepDelivered = tt.keep })
				good, bad, gone := f.endpoint(1), f.endpoint(2), f.endpoint(3)
				f.poster.answer = func(r request) egress.Result {
					switch r.host() {
					case "e1.example.com":
						return egress.Result{Status: 204}
					case "e2.example.com":
						return egress.Result{Status: 500}
					}
					// Deleted while the attempt runs: its log must not come back, nor what was kept.
					f.store.delete(gone)
					f.records.forget(gone)
					return egress.Result{Status: 204}
				}
				b := f.bundle(good, bad, good, gone)
				for i := range b.Deliveries {
					event := *b.Deliveries[i].Event
					event.Body = fmt.Appendf(nil, `{"n":%d}`, i)
					b.Deliveries[i].Event = &event
				}
				if err := f.Handle(t.Context(), b); err != nil {
					t.Fatal(err)
				}
				f.checkMarked(4)
				var ids []string
				for _, d := range f.store.kept() {
					ids = append(ids, d.ID)
					was := b.Deliveries[slices.IndexFunc(b.Deliveries, func(o core.Delivery) bool { return o.ID == d.ID })]
					was.Attempts = 1
					if diff := cmp.Diff(was, d); diff != "" {
						t.Errorf("kept (-want +got):\n%s", diff)
					}
				}
				slices.Sort(ids)
				if diff := cmp.Diff(tt.want, ids); diff != "" {
					t.Errorf("kept (-want +got):\n%s", diff)
				}
			})
		})
	}
}
