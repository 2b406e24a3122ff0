package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestRequestIDs: a caller's own id is used where it is harmless, and every
// answer carries one.
func TestRequestIDs(t *testing.T) {
	t.Parallel()
	s := newAPI(t, nil)
	acme := s.client("acme", "admin,publish")
	for given, kept := range map[string]bool{
		"order-17": true, "A.b_c-9": true, strings.Repeat("x", 128): true,
		strings.Repeat("x", 129): false, "a b": false, "a/b": false, "ä": false, "": false,
	} {
		for path, status := range map[string]int{"/api/v1/webhooks": http.StatusOK, "/api/v1/nothing": http.StatusNotFound} {
			r := acme.do(status, "GET", path, "", "X-Request-Id", given)
			got := r.header.Values("X-Request-Id")
			if len(got) != 1 || got[0] == "" || (got[0] == given) != kept {
				t.Errorf("%s: x-request-id %q is answered with %q", path, given, got)
			}
			if status == http.StatusNotFound {
				r.problem(t, status, "not_found")
			}
		}
	}
	first, second := acme.do(http.StatusOK, "GET", "/api/v1/webhooks", ""), acme.do(http.StatusOK, "GET", "/api/v1/webhooks", "")
	if a, b := first.header.Get("X-Request-Id"), second.header.Get("X-Request-Id"); a == b {
		t.Errorf("two requests have the same id %s", a)
	}
	if got := first.header.Get("Server"); got != "" {
		t.Errorf("the answer names its server: %q", got)
	}
}

// TestRawRequests sends what no decent client would.
func TestRawRequests(t *testing.T) {
	t.Parallel()
	s := newAPI(t, nil)
	acme := s.client("acme", "admin,publish")
	head := "Host: x\r\nAuthorization: Bearer " + acme.key + "\r\n"
	for name, tt := range map[string]struct {
		request string
		status  int
		code    string
	}{
		"not HTTP":                   {"hello\r\n\r\n", 400, "bad_request"},
		"header line without a name": {"GET /api/v1/webhooks HTTP/1.1\r\nHost: x\r\n: x\r\n\r\n", 400, "bad_request"},
		"head above its limit":       {"GET /api/v1/webhooks HTTP/1.1\r\nHost: x\r\nX-Filler: " + strings.Repeat("x", 9<<10) + "\r\n\r\n", 431, "header_too_large"},
		"long path":                  {"GET /" + strings.Repeat("x", 9<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", 431, "header_too_large"},
		"broken chunk":               {"POST /api/v1/events HTTP/1.1\r\n" + head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad_request"},
		"negative length":            {"POST /api/v1/events HTTP/1.1\r\n" + head + "Content-Length: -5\r\n\r\n", 400, "bad_request"},
		"length is a word":           {"POST /api/v1/events HTTP/1.1\r\n" + head + "Content-Length: many\r\n\r\n", 400, "bad_request"},
		"two idempotency keys":       {fmt.Sprintf("POST /api/v1/events HTTP/1.1\r\n%sIdempotency-Key: a\r\nIdempotency-Key: b\r\nContent-Length: %d\r\n\r\n%s", head, len(goodItem), goodItem), 400, "bad_request"},
		"chunked body above limit":   {"POST /api/v1/webhooks HTTP/1.1\r\n" + head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+strings.Repeat("x", 0x1000)+"\r\n", 20) + "0\r\n\r\n", 413, "too_large"},
		"announced, not all sent":    {"POST /api/v1/webhooks HTTP/1.1\r\n" + head + "Content-Length: 99999999999\r\n\r\n" + strings.Repeat("x", 16<<10), 413, "too_large"},
		"absolute form, other path":  {"GET http://127.0.0.1/api/v1/nothing HTTP/1.1\r\n" + head + "\r\n", 404, "not_found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.in(t).rawRequest(requestMethod(tt.request), tt.request).problem(t, tt.status, tt.code)
		})
	}
	t.Run("chunked event", func(t *testing.T) {
		t.Parallel()
		request := fmt.Sprintf("POST /api/v1/events HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", head, 10, goodItem[:10], len(goodItem)-10, goodItem[10:])
		if r := s.in(t).rawRequest("POST", request); r.status != http.StatusAccepted {
			t.Errorf("answer %d %s, want 202", r.status, r.body)
		}
	})
	t.Run("expecting to be asked", func(t *testing.T) {
		t.Parallel()
		request := fmt.Sprintf("POST /api/v1/events HTTP/1.1\r\n%sExpect: 100-continue\r\nContent-Length: %d\r\n\r\n%s", head, len(goodItem), goodItem)
		if r := s.in(t).rawRequest("POST", request); r.status != http.StatusAccepted && r.status != http.StatusContinue {
			t.Errorf("answer %d %s, want 202", r.status, r.body)
		}
	})
	t.Run("HEAD", func(t *testing.T) {
		t.Parallel()
		r := s.in(t).rawRequest("HEAD", "HEAD /api/v1/webhooks HTTP/1.1\r\n"+head+"\r\n")
		if r.status != http.StatusMethodNotAllowed || r.header.Get("Allow") != "GET, POST" || r.header.Get("X-Request-Id") == "" || len(r.body) != 0 {
			t.Errorf("answer %d %v %q, want 405 without a body", r.status, r.header, r.body)
		}
	})
}

// requestMethod returns the first word of a request.
func requestMethod(request string) string {
	method, _, _ := strings.Cut(request, " ")
	return method
}

// TestConnectionSurvivesRefusals: an error does not cost the connection, and
// what is left of a refused body is not read as the next request.
func TestConnectionSurvivesRefusals(t *testing.T) {
	t.Parallel()
	s := newAPI(t, nil)
	acme := s.client("acme", "admin,publish")
	smuggled := "GET /api/v1/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, first := range map[string]string{
		"refused before the body is read": "POST /api/v1/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s",
		"refused without a key":           "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s",
		"refused for its syntax":          "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + acme.key + "\r\nContent-Length: %d\r\n\r\n%s",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := fmt.Sprintf(first, len(smuggled), smuggled) + "GET /api/v1/second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
			answers := s.in(t).rawAnswers(request)
			if len(answers) > 2 || len(answers) == 0 {
				t.Fatalf("%d answers to two requests", len(answers))
			}
			if len(answers) == 2 {
				answers[1].problem(t, http.StatusNotFound, "not_found")
			}
		})
	}
}
