package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// newAPI starts a Sealpost without a sender, for tests of what the API answers.
// Only public endpoints are permitted, as in production.
func newAPI(t *testing.T, settings map[string]string) *system {
	t.Helper()
	all := map[string]string{"SEALPOST_ALLOW_NETS": ""}
	maps.Copy(all, settings)
	s := prepareSystem(t, all)
	s.startGateway()
	return s
}

// in returns the system for the use of a subtest.
func (s *system) in(t *testing.T) *system {
	c := *s
	c.t = t
	return &c
}

// in returns the client for the use of a subtest.
func (c *client) in(t *testing.T) *client { return &client{s: c.s.in(t), key: c.key} }

// problem is the body of an error.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Code      string `json:"code"`
	RequestID string `json:"request_id"`
	Errors    []struct {
		Field  string `json:"field"`
		Detail string `json:"detail"`
	} `json:"errors"`
}

// field returns the field that the first error is about, or "".
func (p *problem) field() string {
	if len(p.Errors) == 0 {
		return ""
	}
	return p.Errors[0].Field
}

// internals must never be seen from outside: names of what Sealpost is made of.
var internals = regexp.MustCompile(`(?i)redis|goroutine|panic|asynq|\.go:|dial (tcp|unix)|127\.0\.0\.1`)

// problem checks that the answer is an error in its full form and returns it.
func (r *response) problem(t *testing.T, status int, code string) *problem {
	t.Helper()
	if r.status != status {
		t.Fatalf("answer %d %s, want %d %s", r.status, r.body, status, code)
	}
	if got := r.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q, want application/problem+json", got)
	}
	decoder := json.NewDecoder(bytes.NewReader(r.body))
	decoder.DisallowUnknownFields()
	p := new(problem)
	if err := decoder.Decode(p); err != nil {
		t.Fatalf("error %q: %v", r.body, err)
	}
	if p.Code != code || p.Status != status {
		t.Errorf("problem %s, want status %d and code %s", r.body, status, code)
	}
	if u, err := url.Parse(p.Type); err != nil || !u.IsAbs() || !strings.HasSuffix(p.Type, code) {
		t.Errorf("type %q is not a URI that ends in the code", p.Type)
	}
	if p.Title == "" || p.Detail == "" {
		t.Errorf("title or detail is missing: %s", r.body)
	}
	if id := r.header.Get("X-Request-Id"); id == "" || id != p.RequestID {
		t.Errorf("x-request-id %q and request_id %q must be the same", id, p.RequestID)
	}
	if internals.Match(r.body) {
		t.Errorf("the error shows something internal: %s", r.body)
	}
	return p
}

// rawRequest sends bytes as they are and returns the first answer.
func (s *system) rawRequest(method, request string) *response {
	s.t.Helper()
	answers := s.rawAnswers(request, method)
	if len(answers) == 0 {
		s.t.Fatalf("no answer to %.80q", request)
	}
	return answers[0]
}

// rawAnswers sends bytes as they are and returns what is answered: as many
// answers as methods are given, or all until the connection is closed.
func (s *system) rawAnswers(requests string, methods ...string) []*response {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.api, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, requests); err != nil {
		s.t.Fatal(err)
	}
	var answers []*response
	for in := bufio.NewReader(conn); len(methods) == 0 || len(answers) < len(methods); {
		request := &http.Request{Method: "GET"}
		if len(methods) > 0 {
			request.Method = methods[len(answers)]
		}
		resp, err := http.ReadResponse(in, request)
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
			return answers
		}
		if err != nil {
			s.t.Fatalf("no answer to %.80q: %v", requests, err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			s.t.Fatal(err)
		}
		answers = append(answers, &response{status: resp.StatusCode, header: resp.Header, body: body})
	}
	return answers
}

// contents returns every key of Redis with its value, in an order that does not
// depend on how Redis keeps it. Left out is what asking for the trail of an event spends
// of its organization's allowance, whatever is found: it ends by itself within moments.
func contents(t *testing.T, client *redis.Client) map[string]string {
	t.Helper()
	all := make(map[string]string)
	keys := client.Scan(t.Context(), 0, "*", 1000).Iterator()
	for keys.Next(t.Context()) {
		key := keys.Val()
		if strings.HasSuffix(key, ":trail") {
			continue
		}
		value, err := valueOf(t.Context(), client, key)
		if err != nil {
			t.Fatalf("read %s: %v", key, err)
		}
		all[key] = fmt.Sprint(value)
	}
	if err := keys.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func valueOf(ctx context.Context, client *redis.Client, key string) (any, error) {
	kind, err := client.Type(ctx, key).Result()
	if err != nil {
		return nil, err
	}
	switch kind {
	case "hash":
		return client.HGetAll(ctx, key).Result()
	case "list":
		return client.LRange(ctx, key, 0, -1).Result()
	case "set":
		return client.SMembersMap(ctx, key).Result()
	case "zset":
		return client.ZRangeWithScores(ctx, key, 0, -1).Result()
	case "stream":
		return client.XRange(ctx, key, "-", "+").Result()
	}
	return client.Get(ctx, key).Result()
}

// unchanged fails the test if Redis holds anything else than before.
func unchanged(t *testing.T, before map[string]string, client *redis.Client) {
	t.Helper()
	if diff := cmp.Diff(before, contents(t, client)); diff != "" {
		t.Fatalf("Redis has changed:\n%s", diff)
	}
}

// The kinds of text that shape tells apart.
var textKinds = []struct {
	name string
	form *regexp.Regexp
}{
	{"uuid", regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)},
	{"time", regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)},
	{"prefix", regexp.MustCompile(`^whsec_[A-Za-z0-9+/]{6}$`)},
	{"secret", regexp.MustCompile(`^whsec_[A-Za-z0-9+/]{32}$`)},
	{"delivery", regexp.MustCompile(`^whd_[0-9a-z]+$`)},
	{"event", regexp.MustCompile(`^evt_[0-9a-z]+$`)},
}

// shape renders JSON without its values: the members of objects in their order,
// each with its type.
func shape(t *testing.T, raw []byte) string {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	out := shapeValue(t, decoder)
	if _, err := decoder.Token(); err != io.EOF {
		t.Fatalf("more than one JSON value: %q", raw)
	}
	return out
}

func shapeValue(t *testing.T, decoder *json.Decoder) string {
	t.Helper()
	token, err := decoder.Token()
	if err != nil {
		t.Fatal(err)
	}
	switch v := token.(type) {
	case json.Delim:
		return shapeContainer(t, decoder, v)
	case string:
		for _, kind := range textKinds {
			if kind.form.MatchString(v) {
				return kind.name
			}
		}
		return "string"
	case json.Number:
		if _, err := strconv.ParseInt(v.String(), 10, 64); err != nil {
			return "fraction"
		}
		return "integer"
	case bool:
		return "boolean"
	}
	return "null"
}

// shapeContainer renders an object member by member, and an array by the
// distinct shapes of its elements.
func shapeContainer(t *testing.T, decoder *json.Decoder, opening json.Delim) string {
	t.Helper()
	var parts []string
	for decoder.More() {
		part := ""
		if opening == '{' {
			name, err := decoder.Token()
			if err != nil {
				t.Fatal(err)
			}
			part = name.(string) + ":"
		}
		part += shapeValue(t, decoder)
		if opening == '{' || !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	closing, err := decoder.Token()
	if err != nil {
		t.Fatal(err)
	}
	return opening.String() + strings.Join(parts, " ") + closing.(json.Delim).String()
}
