package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/publish"
)

// wantQuota fails the test unless the answer says so.
func (a *answer) wantQuota(policy, left, retryAfter string) {
	a.t.Helper()
	for name, want := range map[string]string{"RateLimit-Policy": policy, "RateLimit": left, "Retry-After": retryAfter} {
		if got := a.Header.Get(name); got != want {
			a.t.Errorf("%s: %s %q, want %q", a.what, name, got, want)
		}
	}
}

func TestQuotaPolicy(t *testing.T) {
	t.Parallel()
	for want, q := range map[string]core.Quota{
		"": {},
		`"publish";q=1000;w=10;sealpost-unit="events"`: {Rate: 100, Burst: 1000},
		`"publish";q=5;w=2;sealpost-unit="events"`:     {Rate: 4, Burst: 5},
		`"publish";q=1;w=1;sealpost-unit="events"`:     {Rate: 1e6, Burst: 1},
		`"publish";q=7;w=7000;sealpost-unit="events"`:  {Rate: 0.001, Burst: 7},
	} {
		if got := quotaPolicy(q); got != want {
			t.Errorf("%+v: %s, want %s", q, got, want)
		}
	}
}

// Every answer to publishing carries the policy, and what is left where that is
// known.
func TestQuotaHeaders(t *testing.T) {
	t.Parallel()
	const policy = `"publish";q=1000;w=10;sealpost-unit="events"`
	f := setup(t, func(o *Options) { o.Quota = core.Quota{Rate: 100, Burst: 1000} })
	const event = `{"type":"lead.created","data":1}`
	answers := func(err error, left publish.Allowance) {
		f.publisher.publishFunc = func(r *publish.Request) ([]byte, error) {
			r.Allowance = left
			return []byte(`{}`), err
		}
	}
	answers(nil, publish.Allowance{Known: true, Events: 640, Window: 4 * time.Second})
	f.call("POST", "/api/v1/events", event).want(202, "").wantQuota(policy, `"publish";r=640;t=4`, "")
	f.call("POST", "/api/v1/events/batch", `[`+event+`]`).want(202, "").wantQuota(policy, `"publish";r=640;t=4`, "")
	answers(&core.Error{Code: core.CodeRateLimited, Detail: "used up", RetryAfter: 3 * time.Second}, publish.Allowance{Known: true, Window: 3 * time.Second})
	f.call("POST", "/api/v1/events", event).want(429, core.CodeRateLimited).wantQuota(policy, `"publish";r=0;t=3`, "3")
	answers(core.Unavailable("not confirmed", nil), publish.Allowance{})
	f.call("POST", "/api/v1/events", event).want(503, core.CodeUnavailable).wantQuota(policy, "", "1")
	f.call("POST", "/api/v1/events/batch", `{`).want(400, core.CodeInvalidJSON).wantQuota(policy, "", "")
	f.call("GET", "/api/v1/webhooks", "").want(200, "").wantQuota("", "", "")

	off := setup(t)
	off.call("POST", "/api/v1/events", event).want(202, "").wantQuota("", "", "")
}

// A refused request leaves nothing behind, in Redis or in the queue, and what was
// accepted before is answered again although the quota is used up.
func TestOnRedisQuota(t *testing.T) {
	t.Parallel()
	f, redis, queue := setupRedis(t, core.Quota{Rate: 0.001, Burst: 10})
	const policy = `"publish";q=10;w=10000;sealpost-unit="events"`
	f.subscribe("lead.created")
	batch := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(`{"type":"lead.created","data":1},`, n), ",") + "]"
	}
	first := f.call("POST", "/api/v1/events/batch", batch(4), "Idempotency-Key", "a").want(202, "")
	first.wantQuota(policy, `"publish";r=6;t=4000`, "")
	again := f.call("POST", "/api/v1/events/batch", batch(4), "Idempotency-Key", "a").want(202, "")
	again.wantQuota(policy, `"publish";r=6;t=4000`, "")
	f.call("POST", "/api/v1/events/batch", batch(11)).want(413, core.CodeTooLarge)

	before := redis.Client(t).Keys(t.Context(), "*").Val()
	refused := f.call("POST", "/api/v1/events/batch", batch(8), "Idempotency-Key", "b").want(429, core.CodeRateLimited)
	refused.detail("8 events asked for, 6 left")
	if got := refused.Header.Get("Retry-After"); got != "2000" && got != "1999" {
		t.Errorf("Retry-After %s, want the 2000 s in which two events are gained", got)
	}
	f.call("POST", "/api/v1/events/batch", `[{"id":"x","type":"lead.created","data":1},`+batch(7)[1:]).want(429, core.CodeRateLimited)
	if after := redis.Client(t).Keys(t.Context(), "*").Val(); len(after) != len(before) {
		t.Errorf("refused requests left keys behind: %q, before %q", after, before)
	}

	f.call("POST", "/api/v1/events/batch", batch(5), "Idempotency-Key", "b").want(202, "") // the key was not used
	for i := range 2 {
		want := map[int]int{0: 202, 1: 429}[i]
		if a := f.call("POST", "/api/v1/events", fmt.Sprintf(`{"id":"e%d","type":"lead.created","data":1}`, i)); a.StatusCode != want {
			t.Errorf("event %d: %d %s, want %d", i, a.StatusCode, a.body, want)
		}
	}
	if again := f.call("POST", "/api/v1/events/batch", batch(4), "Idempotency-Key", "a").want(202, ""); again.body != first.body {
		t.Errorf("answered %s, first %s", again.body, first.body)
	}
	f.call("POST", "/api/v1/events", `{"id":"e0","type":"lead.created","data":1}`).want(202, "")
	if n := len(queue.on()); n != 10 {
		t.Errorf("%d deliveries, want 10", n)
	}
}
