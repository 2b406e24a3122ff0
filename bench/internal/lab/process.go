package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is one of the programs under test, or their Redis.
type Process struct {
	Name  string
	cmd   *exec.Cmd
	Admin string // base URL of its admin listener; "" for Redis
	done  chan struct{}
}

const startTimeout = 20 * time.Second

// StartProgram starts a program and returns once it is ready. Its log is added to
// dir/<name>.log; see logFile.
func StartProgram(ctx context.Context, dir, name, binary string, env map[string]string, args ...string) (*Process, string, error) {
	cmd := exec.Command(binary, args...)
	cmd.Env = os.Environ()
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	log, err := openLog(filepath.Join(dir, name+".log"), maxLog)
	if err != nil {
		return nil, "", err
	}
	pipe, err := cmd.StderrPipe()
	if err != nil {
		log.Close()
		return nil, "", err
	}
	cmd.Stdout = cmd.Stderr // one log: what a program prints as it crashes, too
	if err := cmd.Start(); err != nil {
		log.Close()
		return nil, "", fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{Name: name, cmd: cmd, done: make(chan struct{})}
	addrs := make(chan [2]string, 8)
	copied := make(chan struct{})
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
	for p.Admin == "" || (strings.HasPrefix(name, "gateway") && api == "") {
		select {
		case a := <-addrs:
			if a[0] == "api listening" {
				api = "http://" + a[1]
			} else {
				p.Admin = "http://" + a[1]
			}
		case <-p.done:
			return nil, "", fmt.Errorf("%s ended; see %s", name, log.path)
		case <-ctx.Done():
			p.Stop()
			return nil, "", fmt.Errorf("%s does not start; see %s", name, log.path)
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

func (p *Process) awaitReady(ctx context.Context) error {
	for {
		resp, err := http.Get(p.Admin + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready within %v", p.Name, startTimeout)
		case <-p.done:
			return fmt.Errorf("%s ended", p.Name)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the process with SIGTERM, after a while with SIGKILL.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// Crash has a program end with the states of all its goroutines in its log, as a
// runtime error does, and returns when it is gone.
func (p *Process) Crash() {
	_ = p.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.Kill()
	}
}

// Kill ends the process with SIGKILL and returns when it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Signal sends a signal; a process that has ended gets none.
func (p *Process) Signal(signal syscall.Signal) { _ = p.cmd.Process.Signal(signal) }

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// clockTick is the kernel's unit of CPU time: 1/100 s on every Linux that Go
// runs on (man 5 proc, USER_HZ).
const clockTick = 10 * time.Millisecond

// CPU returns the CPU time of the process so far, 0 where /proc does not tell.
func (p *Process) CPU() time.Duration {
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

// Files returns how many files the process has open, 0 where /proc does not tell.
func (p *Process) Files() int {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what there is: the process may end meanwhile
	return len(names)
}

// PeakMemory returns the largest resident set so far, in bytes.
func (p *Process) PeakMemory() int64 { return p.memory("VmHWM:") }

// Memory returns the resident set, in bytes.
func (p *Process) Memory() int64 { return p.memory("VmRSS:") }

// memory returns a size out of /proc, 0 where that does not tell.
func (p *Process) memory(field string) int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}
