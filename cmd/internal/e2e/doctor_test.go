package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/redisstore/redistest"
)

// report is what doctor says as JSON.
type report struct {
	Status           string
	Errors, Warnings int
	Checks           []struct{ Check, Status, Detail, Advice string }
}

// doctor runs gateway doctor with this system's settings and returns its exit
// status and report.
func (s *system) doctor(env map[string]string, args ...string) (int, report) {
	s.t.Helper()
	cmd := exec.Command(binary("gateway"), append([]string{"doctor", "--json"}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "SEALPOST_REDIS_URL=" + s.redis.URL(), "SEALPOST_MASTER_KEYS=" + s.env["SEALPOST_MASTER_KEYS"]}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		s.t.Fatalf("%v: %s%s", err, out, stderr.String())
	}
	if stderr.Len() > 0 {
		s.t.Errorf("doctor writes on standard error: %s", stderr.String())
	}
	return cmd.ProcessState.ExitCode(), r
}

// finding returns what a check found.
func (r *report) finding(check string) (status, detail string) {
	for _, c := range r.Checks {
		if c.Check == check {
			return c.Status, c.Detail
		}
	}
	return "", ""
}

// TestDoctor runs it beside the real programs: their state decides the exit
// status.
func TestDoctor(t *testing.T) {
	t.Parallel()
	// Nothing to complain about, not even what tests otherwise need.
	s := newSystem(t, map[string]string{"SEALPOST_ALLOW_NETS": ""}, redistest.WithConfig("maxmemory", "512mb"))
	acme := s.client("acme", "admin,publish")
	acme.subscribe("https://receiver.example.com/", "call.qualified")
	expect := func(what string, want int, env map[string]string, args []string, check, status, says string) {
		t.Helper()
		got, r := s.doctor(env, args...)
		gotStatus, detail := r.finding(check)
		if got != want || gotStatus != status || !strings.Contains(detail, says) {
			t.Errorf("%s: exit status %d, %s is %s (%s); want %d, %s, %q\n%+v", what, got, check, gotStatus, detail, want, status, says, r)
		}
	}
	s.eventually("both programs are seen", func() bool {
		_, r := s.doctor(nil)
		senders, _ := r.finding("processes.senders")
		_, agreement := r.finding("processes.agreement")
		return senders == "ok" && agreement == "2 processes of one version with the same settings"
	})
	strict := []string{"--strict"}
	expect("in good health", 0, nil, nil, "processes.senders", "ok", "1 sender, all 6 queues")
	typo := map[string]string{"SEALPOST_CONCURENCY": "7"}
	expect("warnings", 0, typo, nil, "settings.variables", "warning", "SEALPOST_CONCURENCY")
	expect("warnings, strictly", 1, typo, strict, "settings.variables", "warning", "SEALPOST_CONCURENCY")
	expect("the wrong master key", 2, map[string]string{"SEALPOST_MASTER_KEYS": newMasterKey()}, nil, "keys.secrets", "error", "1 of 1 sampled endpoints")
	file := filepath.Join(t.TempDir(), "keys")
	if err := errors.Join(os.WriteFile(file, []byte(s.env["SEALPOST_MASTER_KEYS"]), 0o600), os.Chmod(file, 0o644)); err != nil {
		t.Fatal(err)
	}
	expect("a key file for everybody", 2, map[string]string{"SEALPOST_MASTER_KEYS": "", "SEALPOST_MASTER_KEYS_FILE": file}, nil, "keys.file", "error", "0644")

	behind := s.redis.Client(t)
	archived := "asynq:{deliver-00}:archived"
	behind.ZAdd(t.Context(), archived, redis.Z{Score: float64(time.Now().Unix()), Member: "x"})
	expect("an archived task", 2, nil, strict, "queue.archived", "error", "1 in deliver-00")
	behind.Del(t.Context(), archived)

	// A process with settings of its own.
	other := startOther(s, map[string]string{"SEALPOST_ALLOW_HTTP": "true"})
	s.eventually("the other sender is seen", func() bool {
		_, r := s.doctor(nil)
		_, detail := r.finding("processes.agreement")
		return strings.Contains(detail, "SEALPOST_ALLOW_HTTP")
	})
	if status := other.stop(); status != 0 {
		t.Errorf("the other sender ends with status %d", status)
	}
	if status := s.sender.stop(); status != 0 {
		t.Errorf("the sender ends with status %d", status)
	}
	expect("no sender", 2, nil, nil, "processes.senders", "error", "no sender is alive")
	s.redis.Kill()
	expect("no Redis", 2, nil, nil, "redis.reachable", "error", "does not answer")
}

// startOther starts a further sender on the same Redis, with settings of its
// own.
func startOther(s *system, settings map[string]string) *process {
	s.t.Helper()
	env := maps.Clone(s.env)
	maps.Copy(env, settings)
	p := startProcess(s.t, "sender", env, "serve")
	p.listening("admin listening")
	return p
}
