package e2e

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// ownTimestamp is what Sealpost writes where the producer gave no timestamp.
const ownTimestamp = `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`

// TestPayloadBytes: data reaches the receiver byte for byte, however it is
// spelled and by whichever of the ways an event can be published.
func TestPayloadBytes(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, nil)
	e := acme.subscribe(r.url(), "call.received")

	payloads := []string{
		`{"numbers":[1.0,1e400,-0,-0.0,0.1e-400,1E+2,123456789012345678901234567890,0.10000000000000000000001]}`,
		`{"same":1,"same":2,"a":{"same":null,"same":[]}}`,
		`{"escapes":"\u00e9\/\"\\\b\f\n\r\t\u0000\uD834\uDD1E","\u006bey":1,"lone":"\ud834"}`,
		`{"text":"é 𝄞 👩‍👩‍👧 <script>&amp;</script> ` + "\u2028\u2029\x7f\ufeff" + `"}`,
		"{ \"spaces\" :\t[ 1 ,\r\n 2 ] , \"empty\" : { } }",
		`{"z":1,"a":2,"":3}`,
		strings.Repeat("[", 127) + "1" + strings.Repeat("]", 127),                          // 128 levels with the event's own
		strings.Repeat(`{"d":`, 125) + `[{}]` + strings.Repeat("}", 125),                   // the same with objects
		`"` + strings.Repeat("x", 100<<10) + `"`,                                           // beyond all buffers
		`[` + strings.Repeat(`"0123456789abcdef",`, 2000) + `"long and easy to compress"]`, // compressed in Redis
		`null`, `true`, `""`, `0`, `{}`, `[]`,
	}
	const given = `2026-02-03T04:05:06.7+02:00`
	want := make(map[string]*regexp.Regexp) // body by event id
	expect := func(id, timestamp, data string) {
		want[id] = regexp.MustCompile(`(?s)^\{"type":"call\.received","timestamp":"` + timestamp + `","data":` + regexp.QuoteMeta(data) + `\}$`)
	}
	post := func(path, contentType, body string) *response {
		return acme.do(http.StatusAccepted, "POST", path, body, "Content-Type", contentType)
	}
	for i, data := range payloads {
		id := fmt.Sprintf("single-%d", i)
		post("/api/v1/events", "application/json", fmt.Sprintf(`{"type":"call.received","data":%s,"id":%q}`, data, id))
		expect(id, ownTimestamp, data)

		id = fmt.Sprintf("spaced-%d", i)
		post("/api/v1/events", "application/json", fmt.Sprintf(" {\n\"data\" :\t%s , \"timestamp\" : %q, \"id\" : %q ,\r\n\"type\":\"call.received\"}\n ", data, given, id))
		expect(id, regexp.QuoteMeta(given), data)
	}
	var array, lines []string
	for i, data := range payloads {
		id := fmt.Sprintf("array-%d", i)
		array = append(array, fmt.Sprintf(`{"id":%q,"type":"call.received","data":%s}`, id, data))
		if i < 6 || i > 7 { // an array is one level more
			expect(id, ownTimestamp, data)
		} else {
			array = array[:len(array)-1]
		}
		if !strings.Contains(data, "\n") {
			id = fmt.Sprintf("line-%d", i)
			lines = append(lines, fmt.Sprintf(`{"type":"call.received", "id":%q, "data":%s}`, id, data))
			expect(id, ownTimestamp, data)
		}
	}
	post("/api/v1/events/batch", "application/json", "["+strings.Join(array, " , ")+"]")
	post("/api/v1/events/batch", "application/x-ndjson", strings.Join(lines, "\r\n")+"\n")

	requests := r.await(len(want))
	s.awaitIdle()
	if n := len(r.all()); n != len(want) {
		t.Errorf("%d requests, want %d", n, len(want))
	}
	for i := range requests {
		q := &requests[i]
		body := want[q.id()]
		if body == nil {
			t.Errorf("the event %q came twice, or nobody published it", q.id())
			continue
		}
		delete(want, q.id())
		if !body.Match(q.body) {
			t.Errorf("event %s: body %.300q, want %.300s", q.id(), q.body, body)
		}
		if !verifies(t, e.SigningSecret, q) {
			t.Errorf("event %s does not verify", q.id())
		}
	}
}
