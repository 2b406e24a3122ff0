package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// devRun is a running `gateway dev`.
type devRun struct {
	*process
	dir  string
	key  string
	api  string // base URL
	curl string // the line to paste
}

var (
	curlLine = regexp.MustCompile(`^\s*curl -sS (http://\S+)(/api/v1/events) -H 'Authorization: Bearer (sp_[0-9A-Za-z]+)' -d '(\{[^']*\})'$`)
	greeting = regexp.MustCompile(`^\s*Redis\s+(.*)$`)
)

// devDir returns an empty folder whose name is short, because a socket's path
// is limited to some hundred bytes.
func devDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "spdev")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A failed test may leave the child running.
		if socket := filepath.Join(dir, "redis.sock"); exists(socket) {
			client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, DisableIdentity: true})
			defer client.Close()
			client.ShutdownNoSave(context.Background())
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// startDev runs `gateway dev` on free ports and returns when it has printed its
// curl line.
func startDev(t *testing.T, dir string, env map[string]string, args ...string) *devRun {
	t.Helper()
	args = append([]string{"dev", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--data-dir=" + dir}, args...)
	d := &devRun{process: startProcess(t, "gateway", env, args...), dir: dir}
	d.curl = strings.TrimSpace(d.await("a curl line", curlLine.MatchString))
	m := curlLine.FindStringSubmatch(d.curl)
	d.api, d.key = m[1], m[3]
	return d
}

// client acts with the key that dev printed. It needs no system but its API.
func (d *devRun) client(t *testing.T) *client {
	return &client{s: &system{t: t, api: d.api}, key: d.key}
}

// publishAsPrinted sends the request of the curl line, without curl and, where
// it is installed, with it. Each event has to be shown as received.
func (d *devRun) publishAsPrinted(t *testing.T) {
	t.Helper()
	m := curlLine.FindStringSubmatch(d.curl)
	var answers []string
	// curl sends a body of -d as a form unless told otherwise.
	r := d.client(t).do(http.StatusAccepted, "POST", m[2], m[4], "Content-Type", "application/x-www-form-urlencoded")
	answers = append(answers, string(r.body))
	if _, err := exec.LookPath("curl"); err == nil {
		out, err := exec.Command("bash", "-c", d.curl).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", d.curl, err, out)
		}
		answers = append(answers, string(out))
	}
	for _, answer := range answers {
		var a accepted
		if err := json.Unmarshal([]byte(answer), &a); err != nil || a.Deliveries < 1 {
			t.Fatalf("the curl line is answered with %s, want at least one delivery", answer)
		}
		line := d.await("the delivery of "+a.ID, func(line string) bool {
			return strings.Contains(line, a.ID) && strings.Contains(line, "sample endpoint")
		})
		if !strings.Contains(line, "signature verified") || !strings.Contains(line, "call.received") {
			t.Errorf("the terminal shows %q, want the type and a verified signature", line)
		}
	}
}

// stopped ends dev with SIGTERM and checks its exit status.
func (d *devRun) stopped(t *testing.T) {
	t.Helper()
	if status := d.stop(); status != 0 {
		t.Errorf("after SIGTERM the exit status is %d, want 0\n%s", status, d.log())
	}
}

// TestDevInMemory is `make run` on a machine without redis-server, or with one
// that is not to be used.
func TestDevInMemory(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		env  map[string]string
		args []string
	}{
		"no redis-server": {env: map[string]string{"PATH": "/nonexistent"}},
		"asked for":       {args: []string{"--memory"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startDev(t, devDir(t), tt.env, tt.args...)
			if line := d.await("what Redis it uses", greeting.MatchString); !strings.Contains(line, "FORGOTTEN") {
				t.Errorf("the greeting %q does not say that the embedded Redis forgets", line)
			}
			d.publishAsPrinted(t)
			mine := d.client(t)
			mine.s.eventually("the delivery is recorded", func() bool {
				e := mine.page("").Data
				return len(e) == 1 && e[0].LastDeliveryStatus != nil && *e[0].LastDeliveryStatus == http.StatusNoContent
			})
			d.stopped(t)
		})
	}
}

// TestDevWithRedis is `make run` where redis-server is installed: a child that
// is gone afterwards, and remembers.
func TestDevWithRedis(t *testing.T) {
	t.Parallel()
	dir := devDir(t)
	first := startDev(t, dir, nil)
	if line := first.await("what Redis it uses", greeting.MatchString); !strings.Contains(line, "append-only") || !strings.Contains(line, dir) {
		t.Errorf("the greeting %q does not tell where Redis keeps its data", line)
	}
	first.publishAsPrinted(t)

	second := startProcess(t, "gateway", nil, "dev", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--data-dir="+dir)
	select {
	case <-second.done:
	case <-time.After(patience):
		t.Fatal("a second dev on the same folder goes on running")
	}
	if log := second.log(); second.cmd.ProcessState.ExitCode() != 1 || strings.Count(log, "\n") > 0 || !strings.Contains(log, dir) || !strings.Contains(log, "another `gateway dev`") {
		t.Errorf("a second dev on the same folder ends with %d and %q, want 1 and one line that says why", second.cmd.ProcessState.ExitCode(), log)
	}

	// An endpoint of one's own, whose secret must stay derivable.
	got := make(chan *received, 16)
	own := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		got <- &received{header: req.Header.Clone(), body: body}
	}))
	defer own.Close()
	e := first.client(t).subscribe(own.URL, "lead.created")
	child := first.redisPID(t)
	first.stopped(t)
	first.redisGone(t, child)

	again := startDev(t, dir, nil)
	mine := again.client(t)
	if ids := mine.page("").ids(); len(ids) != 2 { // and the sample endpoint, once
		t.Errorf("after a restart there are %d endpoints, want one's own and one sample", len(ids))
	}
	(&client{s: mine.s, key: first.key}).do(http.StatusOK, "GET", "/api/v1/webhooks/"+e.ID, "") // the key of the first run works as well
	mine.publish(2, "lead.created", `{"after":"restart"}`)
	select {
	case r := <-got:
		if !verifies(t, e.SigningSecret, r) {
			t.Error("after a restart the signature is not of the secret that was given out")
		}
	case <-time.After(patience):
		t.Error("after a restart nothing reaches the endpoint")
	}
	again.publishAsPrinted(t)

	// Killed, it leaves its child behind; the next run ends that and goes on.
	orphan := again.redisPID(t)
	again.kill()
	last := startDev(t, dir, nil)
	if ids := last.client(t).page("").ids(); len(ids) != 2 {
		t.Errorf("after a crash there are %d endpoints, want two", len(ids))
	}
	last.redisGone(t, orphan)
	child = last.redisPID(t)
	last.stopped(t)
	last.redisGone(t, child)
}

// redisPID returns the process id of dev's redis-server.
func (d *devRun) redisPID(t *testing.T) int {
	t.Helper()
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: filepath.Join(d.dir, "redis.sock"), DisableIdentity: true})
	defer client.Close()
	info, err := client.InfoMap(t.Context(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if err := json.Unmarshal([]byte(info["Server"]["process_id"]), &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

// redisGone checks that a redis-server is not running any more.
func (d *devRun) redisGone(t *testing.T, pid int) {
	t.Helper()
	(&system{t: t}).eventually("redis-server is gone", func() bool {
		// One whose parent was killed may remain as a zombie where nobody reaps.
		stat, err := os.ReadFile(filepath.Join("/proc", encoded(t, pid), "stat"))
		return syscall.Kill(pid, 0) != nil || err == nil && strings.Contains(string(stat), ") Z ")
	})
}
