package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/redisstore/redistest"
)

// needle is a spelling of something secret.
type needle struct {
	what string
	text []byte
}

// spellings returns the forms in which a secret text could lie somewhere, and
// parts of it, since serialisers may cut or escape. The first shown bytes are
// public.
func spellings(what, secret string, shown int) []needle {
	needles := []needle{
		{what, []byte(secret)},
		{what + " in hexadecimal", []byte(hex.EncodeToString([]byte(secret)))},
		{what + " in base64", []byte(base64.RawStdEncoding.EncodeToString([]byte(secret)))},
	}
	for at := shown; at+10 <= len(secret); at += 5 {
		needles = append(needles, needle{fmt.Sprintf("bytes %d to %d of %s", at, at+10, what), []byte(secret[at : at+10])})
	}
	return needles
}

// rawSpellings returns the forms of secret bytes.
func rawSpellings(what string, raw []byte) []needle {
	return []needle{
		{what + " as bytes", raw},
		{what + " in hexadecimal", []byte(hex.EncodeToString(raw))},
		{what + " in upper-case hexadecimal", []byte(strings.ToUpper(hex.EncodeToString(raw)))},
		{what + " in base64", []byte(base64.RawStdEncoding.EncodeToString(raw))},
		{what + " in base64url", []byte(base64.RawURLEncoding.EncodeToString(raw))},
		{what + " as a list of numbers", []byte(strings.Trim(fmt.Sprint(raw), "[]"))},
		{what + " as a JSON list of numbers", []byte(strings.ReplaceAll(strings.Trim(fmt.Sprint(raw), "[]"), " ", ","))},
	}
}

// signingSecretNeedles returns all spellings of `whsec_…`, of which 12
// characters are public.
func signingSecretNeedles(t *testing.T, what, secret string) []needle {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(raw) != 24 {
		t.Fatalf("%s is not whsec_ and 24 bytes in base64", what)
	}
	return append(spellings(what, secret, 12), rawSpellings(what, raw)...)
}

// search returns where which needle was found.
func search(hay map[string][]byte, needles []needle) []string {
	var found []string
	for place, content := range hay {
		for _, n := range needles {
			if bytes.Contains(content, n.text) {
				found = append(found, n.what+" in "+place)
			}
		}
	}
	return found
}

// redisValues returns the value of every key, and the keys' names, as they are:
// DUMP may compress.
func redisValues(t *testing.T, client *redis.Client) map[string][]byte {
	t.Helper()
	ctx := context.Background()
	values := make(map[string][]byte)
	add := func(key string, parts []string, err error) {
		if err != nil {
			t.Fatalf("read %s: %v", key, err)
		}
		values["the Redis key "+key] = []byte(key + "\n" + strings.Join(parts, "\n"))
	}
	keys := client.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		key := keys.Val()
		kind, err := client.Type(ctx, key).Result()
		if err != nil {
			t.Fatal(err)
		}
		switch kind {
		case "string":
			value, err := client.Get(ctx, key).Result()
			add(key, []string{value}, err)
		case "hash":
			fields, err := client.HGetAll(ctx, key).Result()
			var parts []string
			for field, value := range fields {
				parts = append(parts, field, value)
			}
			add(key, parts, err)
		case "list":
			parts, err := client.LRange(ctx, key, 0, -1).Result()
			add(key, parts, err)
		case "set":
			parts, err := client.SMembers(ctx, key).Result()
			add(key, parts, err)
		case "zset":
			parts, err := client.ZRange(ctx, key, 0, -1).Result()
			add(key, parts, err)
		case "stream":
			entries, err := client.XRange(ctx, key, "-", "+").Result()
			add(key, []string{fmt.Sprint(entries)}, err)
		case "none": // expired meanwhile
		default:
			t.Fatalf("%s has the type %s, which this test cannot read", key, kind)
		}
	}
	if err := keys.Err(); err != nil {
		t.Fatal(err)
	}
	return values
}

// everything returns all that Sealpost left behind: Redis, its files, logs and
// metrics.
func (s *system) everything(client *redis.Client) map[string][]byte {
	s.t.Helper()
	all := redisValues(s.t, client)
	files := 0
	root := filepath.Dir(s.redis.SocketPath())
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.HasSuffix(path, ".aof") && len(content) > 0 {
			files++
		}
		all["the file "+filepath.Base(path)] = content
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if files == 0 {
		s.t.Fatalf("no append-only file in %s", root)
	}
	for name, p := range map[string]*process{"gateway": s.gateway, "sender": s.sender} {
		all["the log of the "+name] = []byte(p.log())
		resp, err := http.Get(s.admin[name] + "/metrics")
		if err != nil {
			s.t.Fatal(err)
		}
		content, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || len(content) == 0 {
			s.t.Fatalf("metrics of the %s: %d bytes, %v", name, len(content), err)
		}
		all["the metrics of the "+name] = content
	}
	return all
}

// TestNoSecretAnywhere: after a full run neither a signing secret nor an API key
// nor the master key can be found in anything that Sealpost wrote.
func TestNoSecretAnywhere(t *testing.T) {
	t.Parallel()
	// Append-only with every write in the file, and nothing compressed.
	s := newSystem(t, map[string]string{"SEALPOST_RETRY_MAX_ATTEMPTS": "2"},
		redistest.WithAppendOnly("always"), redistest.WithConfig("rdbcompression", "no"))
	acme, globex := s.client("acme", "admin,publish"), s.client("globex", "read,admin,publish")
	good := newReceiver(t, s.ca, nil)
	bad := newReceiver(t, s.ca, answers(500))
	var needles []needle
	for i, c := range []*client{acme, globex} {
		needles = append(needles, spellings(fmt.Sprintf("API key %d", i), c.key, 8)...)
	}
	_, master, _ := strings.Cut(s.env["SEALPOST_MASTER_KEYS"], ":")
	raw, err := base64.StdEncoding.DecodeString(master)
	if err != nil {
		t.Fatal(err)
	}
	needles = append(needles, rawSpellings("the master key", raw)...)

	for i, c := range []*client{acme, globex} {
		well := c.subscribe(good.url(), "call.received")
		ill := c.subscribe(bad.url(), "lead.created")
		gone := c.subscribe(good.url(), "lead.updated")
		secrets := []string{well.SigningSecret, ill.SigningSecret, gone.SigningSecret}
		for _, body := range []string{"", `{"overlap":"1h"}`, `{"overlap":"0s"}`, ""} {
			c.publish(1, "call.received", `{"some":"data"}`, "Idempotency-Key", fmt.Sprintf("key-%d-%d", i, len(secrets)))
			secret, _ := c.rotate(well.ID, body)
			secrets = append(secrets, secret)
		}
		c.publish(1, "lead.created", `{"some":"data"}`)
		c.publish(1, "lead.updated", `{"some":"data"}`)
		c.patch(ill.ID, `{"description":"changed"}`)
		c.do(http.StatusOK, "DELETE", "/api/v1/webhooks/"+gone.ID, "")
		c.do(http.StatusUnauthorized, "GET", "/api/v1/webhooks?key="+c.key[:3], "", "Authorization", "Bearer "+c.key+"x")
		for n, secret := range secrets {
			needles = append(needles, signingSecretNeedles(t, fmt.Sprintf("secret %d of organization %d", n, i), secret)...)
		}
	}
	bad.await(4)
	s.awaitIdle()

	client := s.redis.Client(t)
	for _, found := range search(s.everything(client), needles) {
		t.Errorf("found %s", found)
	}

	// The search has to be able to find: every spelling, in every kind of value.
	ctx := context.Background()
	plant := needles[len(needles)-1]
	for _, n := range needles {
		text := "before" + string(n.text) + "after"
		err := client.Set(ctx, "planted", text, 0).Err()
		if err != nil {
			t.Fatal(err)
		}
		if len(search(redisValues(t, client), []needle{n})) != 1 {
			t.Errorf("the search misses %s in a string", n.what)
		}
		plant = n
	}
	for kind, write := range map[string]func(key string) error{
		"hash": func(key string) error { return client.HSet(ctx, key, "field", plant.text).Err() },
		"list": func(key string) error { return client.LPush(ctx, key, "first", plant.text).Err() },
		"set":  func(key string) error { return client.SAdd(ctx, key, plant.text).Err() },
		"zset": func(key string) error { return client.ZAdd(ctx, key, redis.Z{Member: plant.text}).Err() },
		"stream": func(key string) error {
			return client.XAdd(ctx, &redis.XAddArgs{Stream: key, Values: []any{"field", plant.text}}).Err()
		},
	} {
		if err := write("planted in a " + kind); err != nil {
			t.Fatal(err)
		}
		place := plant.what + " in the Redis key planted in a " + kind
		found := search(s.everything(client), []needle{plant})
		if !strings.Contains(strings.Join(found, "\n"), place) {
			t.Errorf("the search misses a secret that was planted in a %s; it finds %q", kind, found)
		}
		if !strings.Contains(strings.Join(found, "\n"), ".aof") {
			t.Errorf("the search misses a secret in the append-only file; it finds %q", found)
		}
	}
}
