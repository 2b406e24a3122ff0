package redisstore

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/frame"
)

// FuzzCondition: what is read of a condition, and of when an endpoint began to fail,
// is written in a form that is read alike.
func FuzzCondition(f *testing.F) {
	f.Add(encodeCondition(&core.Condition{State: core.StatePaused, Since: instant(0), Until: instant(9), Probes: 3, HeadAttempts: 2, Head: "whd_1 x"}))
	f.Add(encodeCondition(&core.Condition{State: core.StateFailing, Since: instant(0)}))
	f.Add(encodeFailing(instant(3)))
	f.Add("3 failing 0 00 -1 99999999999999999999 ")
	f.Fuzz(func(t *testing.T, line string) {
		if c, err := parseCondition(line); err == nil {
			written := encodeCondition(&c)
			again, err := parseCondition(written)
			if err != nil || again.State != c.State || again.Head != c.Head || again.Probes != c.Probes || encodeCondition(&again) != written {
				t.Fatalf("%+v is written as %q and read as %+v, %v", c, written, again, err)
			}
		}
		if v, err := parseFailing(line); err == nil && !v.Since.IsZero() {
			again, err := parseFailing(encodeFailing(v.Since))
			if err != nil || !again.Since.Equal(v.Since) {
				t.Fatalf("%+v is read as %+v, %v", v, again, err)
			}
		}
	})
}

// FuzzRecords: of the records in JSON what is read is written in a form that is read
// alike, and nothing in them changes whose they are.
func FuzzRecords(f *testing.F) {
	e, err := json.Marshal(endpoint("acme", 1))
	if err != nil {
		f.Fatal(err)
	}
	r, err := encodeRecovery(&core.Recovery{ID: "r", Version: "v1", State: core.RecoveryRunning, Since: instant(0), CreatedAt: instant(1), Total: 5})
	if err != nil {
		f.Fatal(err)
	}
	for _, record := range []string{string(e), r, `1764000000123 {"id":"p","role":"gateway","settings":{"A":"b"}}`, "", " ", "null", "1 null", "v {}", "v [", `{"ID":1}`} {
		f.Add(record)
	}
	ref := core.EndpointRef{Organization: "acme", ID: "e1"}
	f.Fuzz(func(t *testing.T, record string) {
		if e, err := decodeEndpoint(ref, record); err == nil {
			same(t, e, func(text string) (any, error) { return decodeEndpoint(ref, text) })
		}
		if r, err := decodeRecovery(ref, "job", record); err == nil {
			written, err := encodeRecovery(r)
			if err != nil {
				t.Fatal(err)
			}
			again, err := decodeRecovery(ref, "job", written)
			if err != nil || r.ID != "job" || r.Endpoint != ref || strings.Contains(r.Version, " ") {
				t.Fatalf("%+v, %v", r, err)
			}
			if twice, err := encodeRecovery(again); err != nil || twice != written {
				t.Fatalf("%q is written again as %q, %v", written, twice, err)
			}
		}
		if p, err := decodeProcess(record); err == nil {
			seen, _, _ := strings.Cut(record, " ")
			same(t, p, func(text string) (any, error) { return decodeProcess(seen + " " + text) })
		}
	})
}

// same fails unless v is read again as it was written.
func same(t *testing.T, v any, read func(string) (any, error)) {
	t.Helper()
	written, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	again, err := read(string(written))
	if err != nil {
		t.Fatalf("%s cannot be read: %v", written, err)
	}
	if twice, err := json.Marshal(again); err != nil || string(twice) != string(written) {
		t.Fatalf("%s is written again as %s, %v", written, twice, err)
	}
}

// FuzzLetter: a dead letter that can be read has its event, whole.
func FuzzLetter(f *testing.F) {
	encoded, err := new(frame.Encoder).Encode([]core.Delivery{{
		ID: core.NewDeliveryID(instant(0)), Organization: "acme", Endpoint: "e1", Attempts: 2,
		Event: &core.Event{ID: "evt_1", Type: "call.received", Body: []byte(`{"a":1}`), AcceptedAt: instant(0)},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(encoded), "", "timeout", "1764000000123", "")
	f.Add("", "body", "gone", "1764000000123", "12")
	f.Add("\x01", "", "", "x", "-")
	ref := core.EndpointRef{Organization: "acme", ID: "e1"}
	f.Fuzz(func(t *testing.T, stored, body, reason, at, attempts string) {
		l, err := parseLetter(ref, map[string]any{"d": stored, "body": body, "reason": reason, "at": at, "accepted": at, "attempts": attempts, "event": "evt_1", "delivery": "whd_1"})
		if err != nil {
			return
		}
		if l.Delivery.Event == nil || l.Size != len(l.Delivery.Event.Body) || stored == "" && string(l.Delivery.Event.Body) != body || string(l.Reason) != reason {
			t.Fatalf("%+v", l)
		}
	})
}

// FuzzInfo: whatever INFO says, memory is never less than nothing.
func FuzzInfo(f *testing.F) {
	f.Add("# Memory\r\nused_memory:100\r\nmem_not_counted_for_evict:7\r\nmaxmemory:200\r\nmaxmemory_policy:noeviction\r\ndb0:keys=1\r\n")
	f.Add("used_memory:1\nmem_not_counted_for_evict:2\nmaxmemory:3")
	f.Add("slave0:ip=127.0.0.1,state=online\n:\n")
	f.Fuzz(func(t *testing.T, text string) {
		if m := parseMemory(text); m.max > 0 && m.used < 0 {
			t.Fatalf("%+v", m)
		}
		info := parseInfo(text)
		if n := Followers(info); n < 0 || n > strings.Count(text, "state=online") {
			t.Fatalf("%d replicas", n)
		}
		for name, value := range info {
			if strings.HasPrefix(name, "db") || strings.ContainsAny(name+value, "\n") {
				t.Fatalf("%q: %q", name, value)
			}
		}
	})
}

// FuzzMember: the name of an endpoint in lists of all is read as it was written.
func FuzzMember(f *testing.F) {
	f.Add("acme", "e1")
	f.Add("a/b", "")
	f.Fuzz(func(t *testing.T, organization, id string) {
		if ref := (core.EndpointRef{Organization: organization, ID: id}); !strings.Contains(id, "/") && refOf(memberOf(ref)) != ref {
			t.Fatalf("%+v is read as %+v", ref, refOf(memberOf(ref)))
		}
	})
}
