package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestQuota: two gateways together let an organization publish what its quota
// allows and not one event more, whatever another one does.
func TestQuota(t *testing.T) {
	t.Parallel()
	const burst = 200
	s := newSystem(t, map[string]string{"SEALPOST_PUBLISH_RATE": "0.001", "SEALPOST_PUBLISH_BURST": fmt.Sprint(burst)})
	second := s.in(t)
	second.admin = make(map[string]string)
	second.startGateway()
	r := newReceiver(t, s.ca, nil)
	flood, calm := s.client("flood", "admin,publish"), s.client("calm", "admin,publish")
	flood.subscribe(r.url(), "lead.created")
	calm.subscribe(r.url(), "lead.created")
	elsewhere := &client{s: second, key: flood.key}

	five := strings.Repeat(`{"type":"lead.created","data":1}`+"\n", 5)
	const producers, requests = 16, 25
	var wg sync.WaitGroup
	var refused atomic.Int64
	for i := range producers {
		c := []*client{flood, elsewhere}[i%2]
		wg.Go(func() {
			for range requests {
				answer, err := c.try("POST", "/api/v1/events/batch", five, "Content-Type", "application/x-ndjson")
				if err != nil {
					t.Error(err)
					return
				}
				if !strings.HasPrefix(answer.header.Get("RateLimit"), `"publish";r=`) || answer.header.Get("RateLimit-Policy") == "" {
					t.Errorf("%d with the headers %v", answer.status, answer.header)
				}
				if answer.status == http.StatusAccepted {
					continue
				}
				refused.Add(5)
				answer.problem(t, http.StatusTooManyRequests, "rate_limited")
				if answer.header.Get("Retry-After") == "" {
					t.Error("429 without Retry-After")
				}
			}
		})
	}
	wg.Wait()
	const want = producers*requests*5 - burst
	counted := s.metric("gateway", "sealpost_events_rejected_total", `code="rate_limited"`) + second.metric("gateway", "sealpost_events_rejected_total", `code="rate_limited"`)
	if n := refused.Load(); n != want || counted != want {
		t.Errorf("%d events were refused and %v counted as refused, want %d", n, counted, want)
	}
	calm.publish(1, "lead.created", "{}")
	s.awaitIdle()
	if n := len(r.all()); n != burst+1 {
		t.Errorf("%d events were delivered, want the %d of the quota and one of the other organization", n, burst)
	}
}
