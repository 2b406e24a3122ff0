package sender

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
)

func noted(t *troubles, endpoint string, reason core.Reason, status int, took time.Duration) {
	v := &verdict{reason: reason, delivery: core.Delivery{Organization: testOrg, Endpoint: endpoint}, row: core.Attempt{Latency: took}}
	t.note(v, &egress.Result{Status: status})
}

func TestTroubles(t *testing.T) {
	t.Parallel()
	began := time.Unix(1_795_503_600, 0)
	tr := newTroubles(began)
	noted(tr, "healthy", "", 200, slowAfter-1)
	noted(tr, "slow", "", 200, 2*time.Second)
	noted(tr, "broken", core.ReasonStatus5xx, 500, time.Millisecond)
	noted(tr, "broken", core.ReasonTimeout, 0, 15*time.Second)
	opts := cmpopts.IgnoreUnexported(Trouble{})
	broken := Trouble{Organization: testOrg, Endpoint: "broken", Failed: 2, Slow: 1, Slowest: 15, Reason: core.ReasonTimeout}
	slow := Trouble{Organization: testOrg, Endpoint: "slow", Slow: 1, Slowest: 2, Status: 200}
	if diff := cmp.Diff(Top{Since: began, Endpoints: []Trouble{broken, slow}}, tr.top(10), opts); diff != "" {
		t.Errorf("top (-want +got):\n%s", diff)
	}
	if got := tr.top(1).Endpoints; len(got) != 1 || got[0].Endpoint != "broken" {
		t.Errorf("top(1) = %v", got)
	}

	if diff := cmp.Diff([]Trouble{broken, slow}, tr.turn(began.Add(troubleSpan)), opts); diff != "" {
		t.Errorf("the span that ended (-want +got):\n%s", diff)
	}
	noted(tr, "slow", core.ReasonStatus429, 429, time.Second)
	slow.Failed, slow.Slow, slow.Reason, slow.Status = 1, 2, core.ReasonStatus429, 429
	if diff := cmp.Diff(Top{Since: began, Endpoints: []Trouble{broken, slow}}, tr.top(10), opts); diff != "" {
		t.Errorf("top over two spans (-want +got):\n%s", diff)
	}
	tr.turn(began.Add(2 * troubleSpan))
	tr.turn(began.Add(3 * troubleSpan))
	if got := tr.top(10); len(got.Endpoints) != 0 || !got.Since.Equal(began.Add(2*troubleSpan)) {
		t.Errorf("after two quiet spans: %v", got)
	}
}

// TestTroublesAreBounded: among any number of endpoints that fail once, those
// that fail often are found, and counted as exactly as they say.
func TestTroublesAreBounded(t *testing.T) {
	t.Parallel()
	tr := newTroubles(time.Unix(0, 0))
	const others, rounds = 10_000, 200
	for i := range others {
		noted(tr, fmt.Sprint("once-", i), core.ReasonConnect, 0, 0)
		if i%(others/rounds) == 0 {
			noted(tr, "often", core.ReasonStatus5xx, 503, 0)
		}
	}
	if n := len(tr.current.places); n != maxTroubled || len(tr.current.index) != n {
		t.Fatalf("%d places and %d names; want %d", n, len(tr.current.index), maxTroubled)
	}
	got := tr.top(1).Endpoints[0]
	if got.Endpoint != "often" || got.Failed > rounds || got.Failed+got.Missed < rounds {
		t.Errorf("the worst of all is %+v; want often, failed %d times", got, rounds)
	}
}

// TestReport: the line comes once a minute, and only when something failed.
func TestReport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.Report(ctx) }()
		lines := func() int { return strings.Count(f.logs.String(), "attempts failed in the last minute") }
		time.Sleep(5*troubleSpan + time.Second)
		if lines() != 0 {
			t.Errorf("nothing failed, and yet: %s", f.logs.String())
		}
		f.poster.answer = func(request) egress.Result { return egress.Result{Status: 500, Started: true} }
		ref := f.endpoint(1)
		if err := f.Handle(t.Context(), f.bundle(ref)); err != nil {
			t.Fatal(err)
		}
		if got := f.Top(3).Endpoints; len(got) != 1 || got[0].Failed != 1 || got[0].Endpoint != ref.ID {
			t.Errorf("Top = %v", got)
		}
		time.Sleep(3 * troubleSpan)
		if lines() != 1 || !strings.Contains(f.logs.String(), ref.ID) {
			t.Errorf("%d lines; want 1:\n%s", lines(), f.logs.String())
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
