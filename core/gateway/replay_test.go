package gateway

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/redisstore"
)

// letterFixture is a server on a real Redis with an endpoint that has dead letters.
type letterFixture struct {
	*fixture
	store *redisstore.Store
	ref   core.EndpointRef
	item  string
	born  time.Time
}

func setupLetters(t *testing.T) *letterFixture {
	t.Helper()
	f, _, _ := setupRedis(t)
	l := &letterFixture{fixture: f, store: f.server.o.Store.(*redisstore.Store), born: time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)}
	l.ref = core.EndpointRef{Organization: "acme", ID: f.subscribe("lead.created").ID}
	l.item = "/api/v1/webhooks/" + l.ref.ID
	return l
}

func (f *letterFixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *letterFixture) delivery(n int) core.Delivery {
	return core.Delivery{
		ID: core.NewDeliveryID(f.born), Organization: "acme", Endpoint: f.ref.ID, Attempts: 12,
		Event: &core.Event{ID: fmt.Sprint("evt_", n), Type: "lead.created", Body: []byte("secret payload"), AcceptedAt: f.born},
	}
}

// kill makes n dead letters and returns the ids of their deliveries, oldest first.
func (f *letterFixture) kill(n int, change ...func(ev *core.Event)) (ids []string) {
	f.t.Helper()
	for i := range n {
		d := f.delivery(i)
		for _, c := range change {
			c(d.Event)
		}
		ids = append(ids, d.ID)
		f.must(f.store.AddDeadLetters(f.t.Context(), []core.DeadLetter{{Delivery: d, Reason: core.ReasonStatus5xx, At: time.Now()}}))
	}
	return ids
}

// waiting returns the deliveries in the backlog.
func (f *letterFixture) waiting() []core.Delivery {
	f.t.Helper()
	waiting, err := f.store.Backlog(f.t.Context(), f.ref, "", 1000)
	f.must(err)
	ds := make([]core.Delivery, len(waiting))
	for i := range waiting {
		ds[i] = waiting[i].Delivery
	}
	return ds
}

// dead returns the ids of the listed dead letters, newest first, page by page.
func (f *letterFixture) dead(limit int) (ids []string) {
	f.t.Helper()
	cursor := ""
	for {
		var page struct {
			Data       []letterJSON
			NextCursor *string `json:"next_cursor"`
		}
		f.call("GET", fmt.Sprint(f.item, "/dead-letters?limit=", limit, cursor), "").want(200, "").decode(&page)
		for _, l := range page.Data {
			ids = append(ids, l.ID)
		}
		if page.NextCursor == nil {
			return ids
		}
		cursor = "&cursor=" + *page.NextCursor
	}
}

func TestDeadLetterList(t *testing.T) {
	t.Parallel()
	f := setupLetters(t)
	if a := f.call("GET", f.item+"/dead-letters", "").want(200, ""); a.body != `{"data":[],"next_cursor":null}` {
		t.Errorf("none: %s", a.body)
	}
	ids := f.kill(7)
	slices.Reverse(ids)
	for _, limit := range []int{1, 3, 7, 100} {
		if diff := cmp.Diff(ids, f.dead(limit)); diff != "" {
			t.Errorf("in pages of %d (-want +got):\n%s", limit, diff)
		}
	}
	a := f.call("GET", f.item+"/dead-letters?limit=1", "").want(200, "")
	var page struct{ Data []letterJSON }
	a.decode(&page)
	want := letterJSON{ID: ids[0], Event: "lead.created", EventID: "evt_6", Error: core.ReasonStatus5xx, Attempts: 12,
		AcceptedAt: formatTime(f.born), DiedAt: page.Data[0].DiedAt, Size: len("secret payload")}
	died, err := time.Parse(timeLayout, page.Data[0].DiedAt)
	if diff := cmp.Diff(want, page.Data[0]); diff != "" || err != nil || time.Since(died) > time.Minute || strings.Contains(a.body, "payload") {
		t.Errorf("%s (-want +got):\n%s", a.body, diff)
	}
	for _, query := range []string{"limit=0", "limit=101", "limit=x", "cursor=x", "cursor=" + *encodeCursor(letterCursor, "5", "x"),
		"cursor=" + *encodeCursor(letterCursor, "-5", "1"), "cursor=" + *encodeCursor(attemptCursor, "5", "1"), "limit=1&limit=1"} {
		f.call("GET", f.item+"/dead-letters?"+query, "").want(400, core.CodeBadRequest, query[:strings.IndexByte(query, '=')])
	}
	for _, want := range []string{`{"deleted":7}`, `{"deleted":0}`} {
		if a := f.call("DELETE", f.item+"/dead-letters", "").want(200, ""); a.body != want {
			t.Errorf("deleted: %s, want %s", a.body, want)
		}
	}
}

func TestReplayOne(t *testing.T) {
	t.Parallel()
	f := setupLetters(t)
	ids := f.kill(3)
	var got struct {
		ID       string
		ReplayOf string `json:"replay_of"`
		EventID  string `json:"event_id"`
		Held     *bool
	}
	f.call("POST", f.item+"/deliveries/"+ids[1]+"/replay", "").want(202, "").decode(&got)
	waiting := f.waiting()
	if len(waiting) != 1 || waiting[0].ID != got.ID || waiting[0].Event.ID != "evt_1" || waiting[0].Attempts != 0 || string(waiting[0].Event.Body) != "secret payload" {
		t.Fatalf("waiting %+v", waiting)
	}
	if got.ReplayOf != ids[1] || got.EventID != "evt_1" || got.ID == ids[1] || got.Held == nil || *got.Held {
		t.Errorf("answer %+v", got)
	}
	if diff := cmp.Diff([]string{ids[2], ids[0]}, f.dead(10)); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	// The fresh one waits already, the old one is known no more.
	f.call("POST", f.item+"/deliveries/"+got.ID+"/replay", "{}").want(409, core.CodeConflict).detail("backlog")
	f.call("POST", f.item+"/deliveries/"+ids[1]+"/replay", "{}").want(404, core.CodeNotFound)

	rows := map[core.Status]core.Delivery{core.StatusDelivered: f.delivery(7), core.StatusRetrying: f.delivery(8), core.StatusFailed: f.delivery(9)}
	for status, d := range rows {
		f.must(f.store.Record(t.Context(), core.Record{Attempts: []core.Attempt{
			{Delivery: d.ID, Event: d.Event.ID, EventType: "lead.created", Endpoint: f.ref.ID, Number: 1, Status: status, StartedAt: time.Now(), Reason: core.ReasonTimeout},
		}}))
	}
	for status, want := range map[core.Status]core.Code{
		core.StatusDelivered: core.CodePayloadExpired, core.StatusFailed: core.CodePayloadExpired, core.StatusRetrying: core.CodeConflict,
	} {
		f.call("POST", f.item+"/deliveries/"+rows[status].ID+"/replay", "").want(409, want)
	}
	if n := len(f.waiting()); n != 1 {
		t.Errorf("%d deliveries wait, want 1", n)
	}
}

func TestReplayListed(t *testing.T) {
	t.Parallel()
	f := setupLetters(t)
	ids := f.kill(4)
	old := f.kill(1, func(ev *core.Event) { ev.MaxAge = time.Second })[0]
	unknown := core.NewDeliveryID(time.Now())
	body := fmt.Sprintf(`{"deliveries":["%s"]}`, strings.Join([]string{ids[2], unknown, ids[0], old}, `","`))
	var got struct {
		Data []replayedJSON
		Held bool
	}
	f.call("POST", f.item+"/dead-letters/replay", body).want(202, "").decode(&got)
	waiting := f.waiting()
	if len(waiting) != 2 || len(got.Data) != 4 {
		t.Fatalf("%d deliveries wait, %d answers", len(waiting), len(got.Data))
	}
	want := []replayedJSON{
		{ID: waiting[0].ID, ReplayOf: ids[2], EventID: "evt_2"},
		{ReplayOf: unknown, Error: &replayFail{Code: core.CodeNotFound, Detail: "no such dead letter"}},
		{ID: waiting[1].ID, ReplayOf: ids[0], EventID: "evt_0"},
		{ReplayOf: old, Error: &replayFail{Code: core.CodeConflict, Detail: got.Data[3].Error.Detail}},
	}
	if diff := cmp.Diff(want, got.Data); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{old, ids[3], ids[1]}, f.dead(10)); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	f.call("POST", f.item+"/deliveries/"+old+"/replay", "").want(409, core.CodeConflict).detail("max_age")
}

func TestRecover(t *testing.T) {
	t.Parallel()
	f := setupLetters(t)
	f.kill(3)
	a := f.call("POST", f.item+"/dead-letters/replay", "{}").want(202, "")
	var got recoveryJSON
	a.decode(&got)
	want := recoveryJSON{ID: got.ID, Status: core.RecoveryRunning, Total: 3, CreatedAt: got.CreatedAt}
	if diff := cmp.Diff(want, got); diff != "" || a.Header.Get("Location") != f.item+"/recover/"+got.ID {
		t.Errorf("%s, Location %q (-want +got):\n%s", a.body, a.Header.Get("Location"), diff)
	}
	if b := f.call("GET", f.item+"/recover/"+got.ID, "").want(200, ""); b.body != a.body {
		t.Errorf("read again: %s, want %s", b.body, a.body)
	}
	// One at a time.
	f.call("POST", f.item+"/recover", `{"since":"2020-01-01T00:00:00Z"}`).want(409, core.CodeConflict).detail(got.ID)

	r, _, err := f.store.ClaimRecovery(t.Context())
	f.must(err)
	r.State, r.Reason, r.Replayed, r.Skipped, r.EndedAt = core.RecoveryStopped, core.ReasonDisabled, 2, 1, f.born
	_, err = f.store.StepRecovery(t.Context(), r, nil)
	f.must(err)
	f.call("GET", f.item+"/recover/"+got.ID, "").want(200, "").decode(&got)
	reason, end := core.ReasonDisabled, formatTime(f.born)
	want.Status, want.Error, want.Replayed, want.Skipped, want.EndedAt = core.RecoveryStopped, &reason, 2, 1, &end
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ended (-want +got):\n%s", diff)
	}
	for span, total := range map[string]int{
		`{"since":"2020-01-01T00:00:00Z"}`: 3, `{"since":"2999-01-01T00:00:00Z"}`: 0, `{"since":"1950-01-01T00:00:00+02:00","until":"2020-01-01T00:00:00Z"}`: 0,
	} {
		f.call("POST", f.item+"/recover", span).want(202, "").decode(&got)
		if got.Total != total || got.Since == nil {
			t.Errorf("%s: %+v, want %d in all", span, got, total)
		}
		r, err := f.store.Recovery(t.Context(), f.ref, got.ID)
		f.must(err)
		r.State = core.RecoveryDone
		_, err = f.store.StepRecovery(t.Context(), r, nil)
		f.must(err)
	}
}

// A request to send again is judged in the order that all are, and changes nothing
// when it is refused.
func TestReplayJudgement(t *testing.T) {
	t.Parallel()
	f := setupLetters(t)
	id := f.kill(1)[0]
	one, all, span := f.item+"/deliveries/"+id+"/replay", f.item+"/dead-letters/replay", f.item+"/recover"
	large := strings.Repeat(" ", maxManagementBody) + "{}"
	missing := "/api/v1/webhooks/" + core.NewEndpointID()
	for _, path := range []string{missing + "/deliveries/" + id + "/replay", missing + "/dead-letters/replay", missing + "/recover",
		"/api/v1/webhooks/x/recover", f.item + "/deliveries/x/replay"} {
		f.call("POST", path, large).want(404, core.CodeNotFound)
	}
	f.call("POST", f.item+"/deliveries/"+core.NewDeliveryID(time.Now())+"/replay", "").want(404, core.CodeNotFound)
	for _, path := range []string{missing + "/dead-letters", missing + "/recover/" + core.NewRecoveryID(time.Now()), f.item + "/recover/x", f.item + "/recover/" + core.NewRecoveryID(time.Now())} {
		f.call("GET", path+"?limit=0", "").want(404, core.CodeNotFound)
	}
	f.call("DELETE", missing+"/dead-letters", "").want(404, core.CodeNotFound)
	f.call("PATCH", f.item, `{"enabled":false,"on_disable":"drop"}`).want(200, "")
	for _, path := range []string{one, all, span} {
		f.call("POST", path, large).want(413, core.CodeTooLarge)
		f.call("POST", path, `{"x":1`).want(400, core.CodeInvalidJSON)
		f.call("POST", path, `{"x":1,"x":2}`).want(422, core.CodeInvalid, slices.Concat([]string{"x", "x"}, map[bool][]string{true: {"since"}}[path == span])...)
		f.call("POST", path, `[]`).want(422, core.CodeInvalid)
	}
	f.call("POST", all, "").want(400, core.CodeInvalidJSON)
	f.call("POST", span, "{}").want(422, core.CodeInvalid, "since")
	for body, fields := range map[string][]string{
		`{"since":1}`: {"since"}, `{"since":"yesterday"}`: {"since"}, `{"since":null}`: {"since"},
		`{"since":"2026-01-02T00:00:00Z","until":"2026-01-02T00:00:00Z"}`: {"until"},
		`{"since":"2026-01-02T00:00:00Z","until":"2026-13-02T00:00:00Z"}`: {"until"},
	} {
		f.call("POST", all, body).want(422, core.CodeInvalid, fields...)
		f.call("POST", span, body).want(422, core.CodeInvalid, fields...)
	}
	many := `"` + id + `"` + strings.Repeat(`,"`+id+`"`, maxReplayed)
	for body, fields := range map[string][]string{
		`{"deliveries":[]}`: {"deliveries"}, `{"deliveries":"` + id + `"}`: {"deliveries"}, `{"deliveries":[1]}`: {"deliveries[0]"},
		`{"deliveries":["` + id + `","x","` + id + `"]}`: {"deliveries[1]", "deliveries[2]"}, `{"deliveries":[` + many + `]}`: {"deliveries"},
		`{"deliveries":["` + id + `"],"since":"2026-01-02T00:00:00Z"}`: {"since"},
	} {
		f.call("POST", all, body).want(422, core.CodeInvalid, fields...)
	}
	// It is disabled and drops what comes.
	f.call("POST", one, "").want(409, core.CodeConflict).detail("enable it first")
	f.call("POST", all, "{}").want(409, core.CodeConflict).detail("enable it first")
	f.call("POST", all, `{"deliveries":["`+id+`"]}`).want(409, core.CodeConflict).detail("enable it first")
	f.call("POST", span, `{"since":"2020-01-01T00:00:00Z"}`).want(409, core.CodeConflict).detail("enable it first")
	if len(f.waiting()) != 0 || len(f.dead(10)) != 1 {
		t.Error("a refused request changed something")
	}
	if r, _, err := f.store.ClaimRecovery(t.Context()); r != nil || err != nil {
		t.Errorf("a recovery was begun: %+v, %v", r, err)
	}
	// It is disabled and holds what comes, and the answer says so.
	f.call("PATCH", f.item, `{"on_disable":"hold"}`).want(200, "")
	var got replayedJSON
	f.call("POST", one, "").want(202, "").decode(&got)
	if got.Held == nil || !*got.Held || len(f.waiting()) != 1 {
		t.Errorf("%+v, %d deliveries wait", got, len(f.waiting()))
	}
	if claims, _, err := f.store.ClaimBacklogs(t.Context(), 10); len(claims) != 0 || err != nil {
		t.Errorf("%d drains are bothered, %v", len(claims), err)
	}
}

// cutStore is a store whose connection is cut at the n-th Replay, or at the n-th
// RemoveReplayed: what was asked for is done, but the answer does not come.
type cutStore struct {
	*redisstore.Store
	replays, removals atomic.Int64
}

func (c *cutStore) Replay(ctx context.Context, p core.Parking, entries []string) ([]string, int, error) {
	ids, excess, err := c.Store.Replay(ctx, p, entries)
	if c.replays.Add(-1) == 0 {
		return nil, 0, core.Unavailable("storage did not confirm the operation", nil)
	}
	return ids, excess, err
}

func (c *cutStore) RemoveReplayed(ctx context.Context, ref core.EndpointRef, entries []string) error {
	if c.removals.Add(-1) == 0 {
		return core.Unavailable("storage did not confirm the operation", nil)
	}
	return c.Store.RemoveReplayed(ctx, ref, entries)
}

// TestLargeReplayInParts: many large dead letters are replayed in groups. The answer
// says which were, and to repeat the request doubles nothing.
func TestLargeReplayInParts(t *testing.T) { // alone: ten megabytes within a request's time
	type result struct {
		Data []replayedJSON
	}
	for _, tt := range []struct {
		name              string
		replays, removals int64
		replayed          []int // of 8, in groups of 3; nil: nothing is known
		left              int
	}{
		{name: "all goes well", replayed: []int{0, 1, 2, 3, 4, 5, 6, 7}},
		{name: "the first group", replays: 1, left: 8},
		{name: "the second group", replays: 2, replayed: []int{0, 1, 2}, left: 5},
		{name: "the last group", replays: 3, replayed: []int{0, 1, 2, 3, 4, 5}, left: 2},
		{name: "the letters of a group stay", removals: 2, replayed: []int{0, 1, 2, 3, 4, 5, 6, 7}, left: 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := setupLetters(t)
			ids := f.kill(8, func(ev *core.Event) { ev.Body = bytes.Repeat([]byte("x"), 1<<20+1<<18) })
			cut := &cutStore{Store: f.store}
			cut.replays.Store(tt.replays)
			cut.removals.Store(tt.removals)
			g := setup(t, func(o *Options) { o.Store, o.Keys = cut, f.store })
			g.key = f.key
			body := fmt.Sprintf(`{"deliveries":["%s"]}`, strings.Join(ids, `","`))
			a := g.call("POST", f.item+"/dead-letters/replay", body)
			fresh := make(map[string]string)
			if tt.replayed == nil {
				a.want(503, core.CodeUnavailable)
			} else {
				var got result
				a.want(202, "").decode(&got)
				for i, r := range got.Data {
					switch {
					case r.ReplayOf != ids[i]:
						t.Fatalf("row %d is about %s, want %s", i, r.ReplayOf, ids[i])
					case slices.Contains(tt.replayed, i) != (r.ID != ""), r.ID == "" && r.Error.Code != core.CodeUnavailable:
						t.Errorf("row %d: %+v, error %+v", i, r, r.Error)
					}
					if r.ID != "" {
						fresh[r.ReplayOf] = r.ID
					}
				}
			}
			if n := len(f.dead(100)); n != tt.left {
				t.Errorf("%d dead letters are left, want %d", n, tt.left)
			}
			var again result
			for range 10 { // a slow machine needs several requests
				g.call("POST", f.item+"/dead-letters/replay", body).want(202, "").decode(&again)
				for _, r := range again.Data {
					if r.ID != "" {
						fresh[r.ReplayOf] = r.ID
					}
				}
				if len(f.dead(100)) == 0 {
					break
				}
			}
			waiting := make(map[string]string)
			after := ""
			for {
				page, err := f.store.Backlog(t.Context(), f.ref, after, 100)
				f.must(err)
				if len(page) == 0 {
					break
				}
				for _, w := range page {
					if waiting[w.Delivery.Event.ID] != "" {
						t.Errorf("%s waits twice", w.Delivery.Event.ID)
					}
					waiting[w.Delivery.Event.ID], after = w.Delivery.ID, w.Entry
				}
			}
			for i := range ids {
				if id := fresh[ids[i]]; waiting[fmt.Sprint("evt_", i)] != id {
					t.Errorf("of event %d waits %q, told was %q", i, waiting[fmt.Sprint("evt_", i)], id)
				}
			}
			if n := len(f.dead(100)); n != 0 || len(waiting) != 8 {
				t.Errorf("%d dead letters are left and %d deliveries wait", n, len(waiting))
			}
		})
	}
}

// A delivery that waits behind large ones is found.
func TestReplayFindsWhatWaitsBehindLargeOnes(t *testing.T) {
	t.Parallel()
	f := setupLetters(t)
	ds := make([]core.Delivery, 20)
	for i := range ds {
		ds[i] = f.delivery(i)
		ds[i].Event.Body = bytes.Repeat([]byte("x"), 1<<20)
	}
	_, err := f.store.Park(t.Context(), []core.Parking{{Endpoint: f.ref, Deliveries: ds}})
	f.must(err)
	f.call("POST", f.item+"/deliveries/"+ds[19].ID+"/replay", "").want(409, core.CodeConflict).detail("backlog")
}

// countingStore counts the reads of dead letters with their payloads.
type countingStore struct {
	*redisstore.Store
	finds atomic.Int64
}

func (c *countingStore) FindDeadLetters(ctx context.Context, ref core.EndpointRef, ids []string) ([]*core.KeptLetter, error) {
	c.finds.Add(1)
	return c.Store.FindDeadLetters(ctx, ref, ids)
}

// A request with a bad body costs no read of a payload.
func TestBadReplayReadsNoLetter(t *testing.T) {
	t.Parallel()
	f := setupLetters(t)
	path := f.item + "/deliveries/" + f.kill(1)[0] + "/replay"
	counting := &countingStore{Store: f.store}
	g := setup(t, func(o *Options) { o.Store, o.Keys = counting, f.store })
	g.key = f.key
	g.call("POST", path, strings.Repeat(" ", maxManagementBody)+"{}").want(413, core.CodeTooLarge)
	g.call("POST", path, `{"x":`).want(400, core.CodeInvalidJSON)
	g.call("POST", path, `{"x":1}`).want(422, core.CodeInvalid, "x")
	if n := counting.finds.Load(); n != 0 {
		t.Errorf("%d reads of dead letters", n)
	}
	g.call("POST", path, "").want(202, "")
	if n := counting.finds.Load(); n != 1 {
		t.Errorf("%d reads of dead letters for a good request, want 1", n)
	}
}
