package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// replayed sends the same request again and checks that the first answer comes
// again, byte for byte.
func (c *client) replayed(first *response, path, body string, headers ...string) {
	c.s.t.Helper()
	again := c.do(http.StatusAccepted, "POST", path, body, headers...)
	if string(again.body) != string(first.body) {
		c.s.t.Errorf("the repetition is answered with %s, the first was %s", again.body, first.body)
	}
}

// mismatch sends another request with a used key.
func (c *client) mismatch(path, body string, headers ...string) {
	c.s.t.Helper()
	c.do(http.StatusUnprocessableEntity, "POST", path, body, headers...).problem(c.s.t, http.StatusUnprocessableEntity, "idempotency_mismatch")
}

// TestIdempotentReplays repeats requests under a header and under an id.
func TestIdempotentReplays(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, nil)
	acme.subscribe(r.url(), "call.qualified")
	const (
		key   = "Idempotency-Key"
		event = "/api/v1/events"
		batch = "/api/v1/events/batch"
		one   = `{"type":"call.qualified","data":{"n":1}}`
	)
	send := func(path, body string, headers ...string) *response {
		t.Helper()
		return acme.do(http.StatusAccepted, "POST", path, body, headers...)
	}
	deliveries := 0

	first := send(event, one, key, "order-1")
	deliveries++
	acme.replayed(first, event, one, key, "order-1")
	acme.mismatch(event, `{"type":"call.qualified","data":{"n":2}}`, key, "order-1")
	acme.mismatch(event, one+" ", key, "order-1") // the bytes decide
	acme.replayed(first, event, one, key, "order-1")

	named := `{"id":"order-2","type":"call.qualified","data":{"n":2}}`
	first = send(event, named)
	deliveries++
	acme.replayed(first, event, named)
	acme.mismatch(event, `{"id":"order-2","type":"call.qualified","data":{"n":3}}`)

	// The header is the key where both are given; the id stays the webhook-id.
	both := `{"id":"order-3","type":"call.qualified","data":{"n":3}}`
	first = send(event, both, key, "k-3")
	deliveries++
	acme.replayed(first, event, both, key, "k-3")
	var a accepted
	first.decode(t, &a)
	if a.ID != "order-3" {
		t.Errorf("the event's id is %s, want order-3", a.ID)
	}
	// A header and an id of the same text are two keys.
	send(event, one, key, "order-2")
	deliveries++

	// A subscriber that comes later does not change the answer to a repetition.
	late := newReceiver(t, s.ca, nil)
	acme.subscribe(late.url(), "call.qualified")
	acme.replayed(first, event, both, key, "k-3")

	// A header covers the whole batch, bad events included.
	array := `[` + one + `,{"type":"call.dropped","data":1},` + one + `]`
	first = send(batch, array, key, "batch-1")
	deliveries += 2
	acme.replayed(first, batch, array, key, "batch-1")
	acme.mismatch(batch, `[`+one+`]`, key, "batch-1")
	lines := []string{"Content-Type", "application/x-ndjson", key, "batch-1"}
	acme.mismatch(batch, one, lines...)

	// Without one each event's id covers that event, alone or in a batch.
	mixed := `[` + named + `,{"id":"order-5","type":"call.qualified","data":5},{"id":"order-2","type":"call.qualified","data":6},{"type":"call.qualified","data":7}]`
	items := acme.batch(mixed)
	deliveries += 2
	if items[0].ID != "order-2" || items[0].Deliveries != 1 || items[1].ID != "order-5" || items[1].Deliveries != 2 || items[2].Error == nil || items[2].Error.Code != "idempotency_mismatch" || items[3].Deliveries != 2 {
		t.Errorf("the batch is answered with %s", encoded(t, items))
	}
	again := acme.batch(mixed)
	deliveries++ // the one without id
	if encoded(t, again[:3]) != encoded(t, items[:3]) || again[3].ID == items[3].ID {
		t.Errorf("the repeated batch is answered with %s, first %s", encoded(t, again), encoded(t, items))
	}
	// Twice the same id within one batch is one event.
	twin := `{"id":"order-8","type":"call.qualified","data":8}`
	items = acme.batch(`[` + twin + `,` + twin + `,{"id":"order-8","type":"call.qualified","data":9}]`)
	deliveries++
	if items[0].ID != "order-8" || items[0].Error != nil || items[1].Error == nil && encoded(t, items[1]) != encoded(t, items[0]) || items[2].Error == nil {
		t.Errorf("a batch with one id thrice is answered with %s", encoded(t, items))
	}

	s.awaitIdle()
	r.await(deliveries)
	if n := len(r.all()); n != deliveries {
		t.Errorf("%d requests arrive, want %d", n, deliveries)
	}
	counts := make(map[string]int)
	for _, q := range r.all() {
		if counts[q.id()]++; counts[q.id()] > 1 {
			t.Errorf("%s arrives %d times", q.id(), counts[q.id()])
		}
	}
}

// TestConcurrentReplays sends the same request many times at once.
func TestConcurrentReplays(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, nil)
	acme.subscribe(r.url(), "call.qualified")
	const senders, rounds = 16, 8
	for round := range rounds {
		body, headers := `{"type":"call.qualified","data":1}`, []string{"Idempotency-Key", fmt.Sprintf("key-%d", round)}
		if round%2 == 1 {
			body, headers = fmt.Sprintf(`{"id":"id-%d","type":"call.qualified","data":1}`, round), nil
		}
		answers, errs := make([]*response, senders), make([]error, senders)
		var all sync.WaitGroup
		for i := range senders {
			all.Go(func() {
				for {
					answers[i], errs[i] = acme.try("POST", "/api/v1/events", body, headers...)
					if errs[i] != nil || answers[i].status != http.StatusConflict {
						return
					}
					if after, err := strconv.Atoi(answers[i].header.Get("Retry-After")); err != nil || after < 1 {
						return // judged below
					}
				}
			})
		}
		all.Wait()
		for i, a := range answers {
			if errs[i] != nil {
				t.Fatal(errs[i])
			}
			if a.status != http.StatusAccepted || string(a.body) != string(answers[0].body) {
				t.Fatalf("answers %d %s (Retry-After %q) and %s", a.status, a.body, a.header.Get("Retry-After"), answers[0].body)
			}
		}
	}
	r.await(rounds)
	s.awaitIdle()
	var ids []string
	for _, q := range r.all() {
		ids = append(ids, q.id())
	}
	slices.Sort(ids)
	if n := len(slices.Compact(slices.Clone(ids))); n != rounds || len(ids) != rounds {
		t.Errorf("%d requests with %d ids arrive, want %d", len(ids), n, rounds)
	}
}
