package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one of the programs under test, or their Redis.
type process struct {
	name  string
	cmd   *exec.Cmd
	admin string // base URL of its admin listener; "" for Redis
	done  chan struct{}
}

const startTimeout = 20 * time.Second

// startProgram starts a program and returns once it is ready. Its log goes to
// dir/<name>.log.
func startProgram(ctx context.Context, dir, name, binary string, env map[string]string, args ...string) (*process, string, error) {
	cmd := exec.Command(binary, args...)
	cmd.Env = os.Environ()
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	output, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, "", err
	}
	defer output.Close()
	pipe, err := cmd.StderrPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, done: make(chan struct{})}
	addrs := make(chan [2]string, 8)
	copied := make(chan struct{})
	log, err := os.OpenFile(output.Name(), os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, "", err
	}
	go func() { // owned by the process: ends when its log does
		defer close(copied)
		defer log.Close()
		readLog(pipe, log, addrs)
	}()
	go func() {
		<-copied
		_ = cmd.Wait()
		close(p.done)
	}()
	api := ""
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for p.admin == "" || (strings.HasPrefix(name, "gateway") && api == "") {
		select {
		case a := <-addrs:
			if a[0] == "api listening" {
				api = "http://" + a[1]
			} else {
				p.admin = "http://" + a[1]
			}
		case <-p.done:
			return nil, "", fmt.Errorf("%s ended; see %s", name, output.Name())
		case <-ctx.Done():
			p.stop()
			return nil, "", fmt.Errorf("%s does not start; see %s", name, output.Name())
		}
	}
	return p, api, p.awaitReady(ctx)
}

// readLog copies the log and reports the addresses that it tells.
func readLog(r io.Reader, w io.Writer, addrs chan<- [2]string) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Fprintln(w, lines.Text())
		var line struct{ Msg, Addr string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Addr != "" {
			select {
			case addrs <- [2]string{line.Msg, line.Addr}:
			default: // nobody waits any more
			}
		}
	}
}

func (p *process) awaitReady(ctx context.Context) error {
	for {
		resp, err := http.Get(p.admin + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready within %v", p.name, startTimeout)
		case <-p.done:
			return fmt.Errorf("%s ended", p.name)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// startRedis starts a redis-server with an append-only file, synced every
// second, and returns its address.
func startRedis(dir string) (*process, string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	addr := l.Addr().String()
	l.Close()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, "", err
	}
	data := filepath.Join(dir, "redis")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, "", err
	}
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", data, "--appendonly", "yes",
		"--appendfsync", "everysec", "--save", "", "--rdbcompression", "no", "--auto-aof-rewrite-min-size", "512mb", "--maxmemory-policy", "noeviction", "--logfile", filepath.Join(dir, "redis.log"))
	if err := cmd.Start(); err != nil {
		return nil, "", fmt.Errorf("start redis-server (is it installed?): %w", err)
	}
	p := &process{name: "redis", cmd: cmd, done: make(chan struct{})}
	go func() { _ = cmd.Wait(); close(p.done) }()
	for deadline := time.Now().Add(startTimeout); ; {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return p, addr, nil
		}
		select {
		case <-p.done:
			return nil, "", errors.New("redis-server ended")
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.stop()
			return nil, "", errors.New("redis-server does not answer")
		}
	}
}

// stop ends the process with SIGTERM, after a while with SIGKILL.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// clockTick is the kernel's unit of CPU time: 1/100 s on every Linux that Go
// runs on (man 5 proc, USER_HZ).
const clockTick = 10 * time.Millisecond

// cpu returns the CPU time of the process so far, 0 where /proc does not tell.
func (p *process) cpu() time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	// Fields are counted behind the name, which stands in parentheses.
	_, rest, _ := strings.Cut(string(raw), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * clockTick
}

// peakMemory returns the largest resident set so far, in bytes.
func (p *process) peakMemory() int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// ownCPU returns the CPU time of bench itself.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
