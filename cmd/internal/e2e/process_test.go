package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is one of the programs, started for a test. Its log is kept, and
// printed when the test fails.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process is gone and its log is read

	mu    sync.Mutex
	lines []string      // everything it wrote
	more  chan struct{} // closed and replaced when a line comes
}

// maxLogLines is how much of a log a failed test prints.
const maxLogLines = 200

// startProcess starts a program with a clean environment and the given settings
// (SEALPOST_… and others). It is killed when the test ends.
func startProcess(t *testing.T, name string, env map[string]string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, done: make(chan struct{}), more: make(chan struct{})}
	p.cmd = exec.Command(binary(name), args...)
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GORACE=halt_on_error=1"}
	for k, v := range env {
		p.cmd.Env = append(p.cmd.Env, k+"="+v)
	}
	read, write := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = write, write
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	collected := make(chan struct{})
	go func() {
		p.collect(read)
		close(collected)
	}()
	go func() {
		p.cmd.Wait() // how it ended is read from ProcessState
		write.Close()
		<-collected // so that the log of a process that is gone is complete
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			p.dump()
		}
		if strings.Contains(p.log(), "DATA RACE") {
			t.Errorf("%s has a data race:\n%s", name, p.log())
		}
	})
	return p
}

func (p *process) collect(r io.Reader) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 64<<10), 4<<20)
	for scanner.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, scanner.Text())
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
}

// log returns everything the process wrote so far.
func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

func (p *process) dump() {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := p.lines[max(0, len(p.lines)-maxLogLines):]
	p.t.Logf("log of %s (last %d lines):\n%s", p.name, len(lines), strings.Join(lines, "\n"))
}

// await returns the first line that match accepts, waiting for it if need be.
func (p *process) await(what string, match func(line string) bool) string {
	p.t.Helper()
	deadline := time.After(patience)
	seen := 0
	for {
		p.mu.Lock()
		lines, more := p.lines[seen:], p.more
		seen = len(p.lines)
		p.mu.Unlock()
		for _, line := range lines {
			if match(line) {
				return line
			}
		}
		select {
		case <-more:
		case <-p.done:
			p.dump()
			p.t.Fatalf("%s ended before it wrote: %s", p.name, what)
		case <-deadline:
			p.dump()
			p.t.Fatalf("%s did not write within %v: %s", p.name, patience, what)
		}
	}
}

// listening returns the address of the log line `msg`, e.g. "api listening".
func (p *process) listening(msg string) string {
	p.t.Helper()
	var record struct{ Msg, Addr string }
	p.await(msg, func(line string) bool {
		return json.Unmarshal([]byte(line), &record) == nil && record.Msg == msg
	})
	return record.Addr
}

// kill ends the process with SIGKILL and waits until it is gone.
func (p *process) kill() {
	p.cmd.Process.Kill() // fails only when it is gone already
	<-p.done
}

// signal sends a signal.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("signal %s: %v", p.name, err)
	}
}

// stop ends the process with SIGTERM and returns its exit status.
func (p *process) stop() int {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	return p.exited()
}

// exited waits until the process has ended by itself and returns its exit
// status.
func (p *process) exited() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.dump()
		p.t.Fatalf("%s did not end within %v", p.name, patience)
	}
	return p.cmd.ProcessState.ExitCode()
}
