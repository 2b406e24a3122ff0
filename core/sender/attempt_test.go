package sender

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/core/sign"
)

// verify checks a request as a receiver that knows secret would.
func verify(t *testing.T, r request, secret string) error {
	t.Helper()
	key, err := sign.ParseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	return sign.Verify([][]byte{key}, r.header.Get, []byte(r.body), r.at, time.Second)
}

func signatures(r request) []string { return strings.Fields(r.header.Get("Webhook-Signature")) }

func TestRequestIsSigned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		b := f.bundle(ref)
		if err := f.Handle(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		r := f.poster.all()[0]
		if err := verify(t, r, f.secrets[ref]); err != nil {
			t.Errorf("Verify: %v; header %v", err, r.header)
		}
		if r.header.Get("Webhook-Id") != "evt_000" || r.body != string(b.Deliveries[0].Event.Body) || len(r.header) != 3 {
			t.Errorf("request = %+v", r)
		}
		if len(signatures(r)) != 1 {
			t.Errorf("%d signatures; want 1", len(signatures(r)))
		}
	})
}

// During an overlap every valid secret signs, newest first; an expired one does
// not, to the instant.
func TestRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		first := f.secrets[ref]
		second, record := f.keyring.NewSecret(ref, 2, time.Now())
		const overlap = 10 * time.Second
		f.store.set(ref, func(e *core.Endpoint) {
			if err := e.Rotate(record, overlap, time.Now()); err != nil {
				t.Fatal(err)
			}
		})
		send := func() request {
			t.Helper()
			if err := f.Handle(t.Context(), f.bundle(ref)); err != nil {
				t.Fatal(err)
			}
			all := f.poster.all()
			return all[len(all)-1]
		}
		r := send()
		if got := signatures(r); len(got) != 2 {
			t.Fatalf("signatures = %v; want 2", got)
		}
		if verify(t, r, first) != nil || verify(t, r, second) != nil {
			t.Error("a secret inside the overlap does not verify")
		}
		r.header.Set("Webhook-Signature", signatures(r)[0])
		if verify(t, r, second) != nil {
			t.Error("the newest secret's signature is not the first")
		}
		// The record read just before the expiry is still in use after it.
		time.Sleep(overlap - time.Millisecond)
		if r = send(); len(signatures(r)) != 2 {
			t.Errorf("signatures before the expiry = %v; want 2", signatures(r))
		}
		time.Sleep(time.Millisecond)
		r = send()
		if len(signatures(r)) != 1 || verify(t, r, second) != nil || verify(t, r, first) == nil {
			t.Errorf("signatures after the expiry = %v; want the second secret's", signatures(r))
		}
	})
}

func TestChangesWhileConnecting(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		change   func(*fixture, core.EndpointRef)
		requests int
		dropped  int
		status   core.Status
		dead     core.Reason
	}{
		{
			name:   "deleted",
			change: func(f *fixture, ref core.EndpointRef) { f.store.delete(ref) }, dropped: 1,
		},
		{
			name: "disabled",
			change: func(f *fixture, ref core.EndpointRef) {
				f.store.set(ref, func(e *core.Endpoint) { e.Enabled = false })
			},
			dropped: 1, status: core.StatusFailed, dead: core.ReasonDisabled,
		},
		{
			name: "moved",
			change: func(f *fixture, ref core.EndpointRef) {
				f.store.set(ref, func(e *core.Endpoint) { e.URL = "https://new.example.com/" })
			},
			requests: 1, dropped: 2, status: core.StatusDelivered, // noticed by the cache, and after the connection is free
		},
		{
			name: "changed otherwise",
			change: func(f *fixture, ref core.EndpointRef) {
				f.store.set(ref, func(e *core.Endpoint) { e.Description = "x" })
			},
			requests: 1, status: core.StatusDelivered,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, nil)
				ref := f.endpoint(1)
				connects := 0
				f.poster.connect = func(*egress.Target) {
					if connects++; connects == 1 {
						time.Sleep(time.Second)
						tt.change(f, ref)
					}
				}
				if err := f.Handle(t.Context(), f.bundle(ref)); err != nil {
					t.Fatal(err)
				}
				requests := f.poster.all()
				if len(requests) != tt.requests {
					t.Errorf("%d requests; want %d", len(requests), tt.requests)
				}
				if tt.name == "moved" && requests[0].target.Origin() != "https://new.example.com:443" {
					t.Errorf("request went to %s", requests[0].target.Origin())
				}
				if n := len(f.poster.dropped); (n > 0) != (tt.dropped > 0) {
					t.Errorf("connections dropped %d times; want %d", n, tt.dropped)
				}
				var status core.Status
				if rows := f.store.rows(); len(rows) > 0 {
					status = rows[0].Status
				}
				if status != tt.status || f.store.letters()["whd_000"].Reason != tt.dead {
					t.Errorf("status %q, dead %q; want %q, %q", status, f.store.letters()["whd_000"].Reason, tt.status, tt.dead)
				}
				f.checkMarked(1)
			})
		})
	}
}

// No request is begun under a record older than its lifetime, so once the delay
// of the API has passed a deletion holds, however many deliveries wait.
func TestNoRequestAfterDeletion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.PerEndpoint = 3 })
		ref := f.endpoint(1)
		var n atomic.Int64
		f.poster.connect = func(*egress.Target) {
			time.Sleep(time.Duration(n.Add(1)*17%230) * time.Millisecond)
		}
		deletion := make(chan time.Time, 1)
		go func() {
			time.Sleep(3100 * time.Millisecond)
			f.store.delete(ref)
			deletion <- time.Now()
		}()
		if err := f.Handle(t.Context(), f.bundle(repeat(ref, 200)...)); err != nil {
			t.Fatal(err)
		}
		requests := f.poster.all()
		if len(requests) == 0 || len(requests) == 200 {
			t.Fatalf("%d requests; the deletion was to come in between", len(requests))
		}
		deleted := <-deletion
		for _, r := range requests {
			if late := r.at.Sub(deleted); late >= core.RecordLifetime {
				t.Errorf("a request began %v after the deletion", late)
			}
		}
		f.checkMarked(200)
	})
}

func TestEndpointThatKeepsMoving(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		f.poster.connect = func(*egress.Target) {
			time.Sleep(time.Second)
			f.store.set(ref, func(e *core.Endpoint) { e.URL += "x" })
		}
		if err := f.Handle(t.Context(), f.bundle(ref)); err != nil {
			t.Fatal(err)
		}
		back := f.queue.deferrals()
		if len(back) != 1 || !back[0].due.Equal(time.Now().Add(restartDelay)) || back[0].deliveries[0].Attempts != 0 {
			t.Errorf("put back = %+v; want due in %v, no attempt spent", back, restartDelay)
		}
		f.checkMarked(1)
	})
}

func TestLogsHoldNothingSecret(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ref := f.endpoint(1)
		f.store.set(ref, func(e *core.Endpoint) { e.URL = "https://e1.example.com/path-of-it?token=query-of-it" })
		status := 500
		f.poster.answer = func(request) egress.Result { return egress.Result{Status: status} }
		for _, status = range []int{200, 500, 410} {
			b := f.bundle(ref)
			b.Deliveries[0].Event.Body = []byte(`{"data":"payload-of-it"}`)
			if err := f.Handle(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		logs := f.logs.String()
		if !strings.Contains(logs, `"outcome":"delivered"`) || !strings.Contains(logs, "endpoint disabled") {
			t.Errorf("the log lacks the attempts:\n%s", logs)
		}
		secret := f.secrets[ref]
		for _, word := range []string{"query-of-it", "path-of-it", "payload-of-it", secret, strings.TrimPrefix(secret, "whsec_"), "v1,"} {
			if strings.Contains(logs, word) {
				t.Errorf("the log contains %q", word)
			}
		}
	})
}

func TestAppendHeaderAllocates0(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	f := newFixture(t, nil)
	ref := f.endpoint(1)
	rec, err := f.records.get(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	a := &attempt{s: f.Sender, d: &f.bundle(ref).Deliveries[0], rec: rec}
	buf := make([]byte, 0, 1024)
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() { buf, err = a.appendHeader(buf[:0], now) }); n != 0 || err != nil {
		t.Errorf("appendHeader allocates %v times (%v); want 0", n, err)
	}
}
