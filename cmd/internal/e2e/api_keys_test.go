package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// outcome is how a command ended.
type outcome struct {
	status         int
	stdout, stderr string
}

// run runs a program to its end. No setting but those of env is set.
func run(t *testing.T, program string, env []string, stdin string, args ...string) outcome {
	t.Helper()
	// A program that goes on running is a mistake of the test or the program.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(program), args...)
	cmd.Env = append([]string{"HOME=" + t.TempDir()}, env...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatalf("%s %s: %v", program, strings.Join(args, " "), err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// oneLine checks that a command ended with a status and one line that names
// something.
func (o outcome) oneLine(t *testing.T, status int, names string) {
	t.Helper()
	if o.status != status || strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, names) {
		t.Errorf("status %d, standard error %q; want status %d and one line that names %s", o.status, o.stderr, status, names)
	}
	if o.stdout != "" {
		t.Errorf("standard output %q, want none", o.stdout)
	}
}

// madeKey is what `keys create --json` prints.
type madeKey struct {
	Key          string    `json:"key"`
	ID           string    `json:"id"`
	Organization string    `json:"organization"`
	Name         string    `json:"name"`
	Scopes       []string  `json:"scopes"`
	Hint         string    `json:"hint"`
	CreatedAt    time.Time `json:"created_at"`
	ExpiresAt    time.Time `json:"expires_at"`
}

func (s *system) makeKey(args ...string) madeKey {
	s.t.Helper()
	var k madeKey
	if err := json.Unmarshal([]byte(s.command(append([]string{"keys", "create", "--json"}, args...)...)), &k); err != nil {
		s.t.Fatal(err)
	}
	return k
}

// TestKeys creates, lists and revokes API keys at the command line.
func TestKeys(t *testing.T) {
	t.Parallel()
	s := newAPI(t, nil)
	works := func(key string) int {
		t.Helper()
		r, err := (&client{s: s, key: key}).try("GET", "/api/v1/webhooks", "")
		if err != nil {
			t.Fatal(err)
		}
		return r.status
	}

	text := s.command("keys", "create", "--org", "acme", "--scopes", "read", "--name", "plain")
	key := regexp.MustCompile(`^sp_[0-9A-Za-z]{36}\n`).FindString(text)
	if key == "" || strings.Count(text, strings.TrimSpace(key)) != 1 || works(strings.TrimSpace(key)) != http.StatusOK {
		t.Errorf("create prints %q, which does not begin with a key that works", text)
	}

	made := s.makeKey("--org", "acme", "--scopes", "read,admin", "--name", "for tests", "--expires", "90d")
	if life := made.ExpiresAt.Sub(made.CreatedAt); life != 90*24*time.Hour || time.Since(made.CreatedAt).Abs() > time.Minute {
		t.Errorf("created at %v, expires at %v", made.CreatedAt, made.ExpiresAt)
	}
	if made.Organization != "acme" || made.Name != "for tests" || strings.Join(made.Scopes, " ") != "read admin" || !strings.HasPrefix(made.ID, "key_") || !strings.HasPrefix(made.Key, made.Hint) {
		t.Errorf("created %+v", made)
	}
	foreign := s.makeKey("--org", "other", "--scopes", "publish")
	if !foreign.ExpiresAt.IsZero() {
		t.Errorf("a key without --expires expires at %v", foreign.ExpiresAt)
	}

	var list struct{ Data []madeKey }
	listed := func(args ...string) map[string]madeKey {
		t.Helper()
		out := s.command(append([]string{"keys", "list", "--json"}, args...)...)
		if strings.Contains(out, made.Key) || strings.Contains(out, foreign.Key) || strings.Contains(out, "sha") {
			t.Errorf("list shows keys or hashes: %s", out)
		}
		list.Data = nil
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatal(err)
		}
		keys := make(map[string]madeKey)
		for _, k := range list.Data {
			keys[k.ID] = k
		}
		return keys
	}
	if all := listed(); len(all) != 3 || all[foreign.ID].Organization != "other" {
		t.Errorf("list shows %+v, want three keys", all)
	}
	if mine := listed("--org", "acme"); len(mine) != 2 || mine[made.ID].Name != "for tests" || mine[made.ID].ExpiresAt != made.ExpiresAt {
		t.Errorf("list --org acme shows %+v, want two keys", mine)
	}
	table := s.command("keys", "list")
	if strings.Count(table, "\n") != 4 || !strings.HasPrefix(table, "ID") || !strings.Contains(table, made.ID) || strings.Contains(table, made.Key) {
		t.Errorf("list prints\n%s", table)
	}

	if got := works(made.Key); got != http.StatusOK {
		t.Errorf("the key is answered with %d", got)
	}
	s.command("keys", "revoke", made.ID)
	revoked := time.Now()
	for begun := revoked; works(made.Key) != http.StatusUnauthorized; begun = time.Now() {
		if begun.Sub(revoked) > 2*time.Second {
			t.Fatal("the key still works two seconds after it was revoked")
		}
	}
	if mine := listed("--org", "acme"); len(mine) != 1 {
		t.Errorf("after the revocation list shows %+v", mine)
	}
	env := []string{"SEALPOST_REDIS_URL=" + s.redis.URL()}
	for _, id := range []string{made.ID, "key_nobody"} {
		run(t, "gateway", env, "", "keys", "revoke", id).oneLine(t, 1, "no such API key")
	}

	// An expiry needs nobody's help.
	brief := s.makeKey("--org", "acme", "--scopes", "read", "--expires", "2s")
	if got := works(brief.Key); got != http.StatusOK && time.Now().Before(brief.ExpiresAt) {
		t.Errorf("before its expiry the key is answered with %d", got)
	}
	s.eventually("the key has expired", func() bool { return works(brief.Key) == http.StatusUnauthorized })
	if time.Now().Before(brief.ExpiresAt) {
		t.Errorf("the key stopped working before %v", brief.ExpiresAt)
	}
	if mine := listed("--org", "acme"); len(mine) != 1 {
		t.Errorf("after the expiry list shows %+v", mine)
	}
}

// TestKeyCommandRefusals are wrong calls of the key commands.
func TestKeyCommandRefusals(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args  []string
		names string
	}{
		"organization in upper case":  {[]string{"create", "--org", "Acme", "--scopes", "read"}, "--org"},
		"empty organization":          {[]string{"create", "--org", "", "--scopes", "read"}, "--org"},
		"long organization":           {[]string{"create", "--org", strings.Repeat("a", 65), "--scopes", "read"}, "--org"},
		"organization with a brace":   {[]string{"create", "--org", "a}b", "--scopes", "read"}, "--org"},
		"no organization":             {[]string{"create", "--scopes", "read"}, "--org"},
		"no scopes":                   {[]string{"create", "--org", "acme"}, "--scopes"},
		"empty scopes":                {[]string{"create", "--org", "acme", "--scopes", ""}, "--scopes"},
		"unknown scope":               {[]string{"create", "--org", "acme", "--scopes", "read,write"}, "write"},
		"lifetime without unit":       {[]string{"create", "--org", "acme", "--scopes", "read", "--expires", "90"}, "expires"},
		"negative lifetime":           {[]string{"create", "--org", "acme", "--scopes", "read", "--expires", "-1h"}, "expires"},
		"long name":                   {[]string{"create", "--org", "acme", "--scopes", "read", "--name", strings.Repeat("n", 101)}, "--name"},
		"unknown flag":                {[]string{"create", "--org", "acme", "--scopes", "read", "--color"}, "--color"},
		"revoke nothing":              {[]string{"revoke"}, "id"},
		"no command":                  {nil, "create"},
		"Redis of an unknown kind":    {[]string{"list", "--redis-url", "http://127.0.0.1"}, "SEALPOST_REDIS_URL"},
		"Redis that cannot be parsed": {[]string{"list", "--redis-url", "redis://x:y:z/"}, "SEALPOST_REDIS_URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, "gateway", nil, "", append([]string{"keys"}, tt.args...)...).oneLine(t, 2, tt.names)
		})
	}
	// Nobody listens on this port: the answer is one line, without a password.
	o := run(t, "gateway", []string{"SEALPOST_REDIS_URL=redis://user:hunter2@127.0.0.1:1/0"}, "", "keys", "list")
	o.oneLine(t, 1, "list the keys")
	if strings.Contains(o.stderr, "hunter2") {
		t.Errorf("the password is shown: %s", o.stderr)
	}
}

// TestVerifyCommand checks signatures at the command line.
func TestVerifyCommand(t *testing.T) {
	t.Parallel()
	// The vector of Standard Webhooks 1.0.0.
	const (
		secret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
		body      = `{"test": 2432232314}`
		signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	)
	base := []string{"verify", "--id", "msg_p5jXN8AQM9LWM0D4loKWxJek", "--timestamp", "1614265330", "--signature"}
	env := []string{"SEALPOST_VERIFY_SECRET=" + secret}
	good := append(base, signature, "--tolerance", "0s")
	if o := run(t, "gateway", env, body, good...); o.status != 0 || o.stdout != "signature verified\n" || o.stderr != "" {
		t.Errorf("the official vector: %+v", o)
	}
	if o := run(t, "gateway", nil, body, append(good, "--secret", secret)...); o.status != 0 {
		t.Errorf("with the secret as a flag: %+v", o)
	}
	for name, o := range map[string]outcome{
		"another body":      run(t, "gateway", env, body+"\n", good...),
		"another signature": run(t, "gateway", env, body, append(base, "v1,"+strings.Repeat("A", 43)+"=", "--tolerance", "0s")...),
		"old timestamp":     run(t, "gateway", env, body, append(base, signature)...),
		"another secret":    run(t, "gateway", []string{"SEALPOST_VERIFY_SECRET=whsec_" + strings.Repeat("A", 32)}, body, good...),
	} {
		if o.status != 1 || strings.Count(o.stderr, "\n") != 1 || o.stdout != "" || strings.Contains(o.stderr, secret) {
			t.Errorf("%s: %+v, want status 1 and one line that does not show the secret", name, o)
		}
	}
	run(t, "gateway", []string{"SEALPOST_VERIFY_SECRET=hunter2"}, body, good...).oneLine(t, 2, "secret")
	run(t, "gateway", env, body, "verify").oneLine(t, 2, "--id")
}
