package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	startTimeout = 30 * time.Second // until the server answers, on a busy machine
	startTries   = 5                // with another port each
	maxLog       = 16 << 10         // bytes of the server's log that a failed test prints

	// Ports below the range that Linux and macOS give to outgoing connections,
	// so that none of those takes the port while the server is down.
	firstPort, lastPort = 20000, 32000
)

var errNoServer = errors.New("redis-server is not in PATH, and these tests need a real one: " +
	"apt-get install redis-server (Debian, Ubuntu), dnf install redis (Fedora), brew install redis (macOS)")

// process is a redis-server that can be started again on the same address.
// Its methods are called by one goroutine at a time.
type process struct {
	binary string
	dir    string // short: a Unix socket's path has 104 bytes at most
	port   int
	config []string // further command-line arguments

	cmd    *exec.Cmd     // nil: not running
	exited chan struct{} // closed when cmd is gone
}

// launch starts a server in a fresh directory.
func launch(config []string) (*process, error) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errNoServer
	}
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		return nil, err
	}
	p := &process{binary: binary, dir: dir, config: config}
	for range startTries {
		if p.port, err = freePort(); err != nil {
			break
		}
		if err = p.start(); err == nil {
			return p, nil
		}
	}
	err = fmt.Errorf("start redis-server: %w\n%s", err, p.log())
	return nil, errors.Join(err, os.RemoveAll(dir))
}

func freePort() (int, error) {
	var last error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
		last = err
	}
	return 0, fmt.Errorf("find a free port: %w", last)
}

func (p *process) addr() string   { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }
func (p *process) socket() string { return filepath.Join(p.dir, "redis.sock") }

// start runs the server and returns once it answers, or with the reason why it
// does not.
func (p *process) start() error {
	logFile, err := os.OpenFile(filepath.Join(p.dir, "redis.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	args := append([]string{
		"--port", strconv.Itoa(p.port), "--bind", "127.0.0.1",
		"--unixsocket", p.socket(), "--unixsocketperm", "700",
		"--dir", p.dir, "--daemonize", "no", "--save", "",
	}, p.config...)
	cmd := exec.Command(p.binary, args...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = dieWithParent()

	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		// On Linux the server is told to die with the thread that started it, so
		// this goroutine keeps that thread until the server is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is seen in the log
		}
		close(exited)
	}()
	if err := <-started; err != nil {
		return err
	}
	p.cmd, p.exited = cmd, exited
	if err := p.awaitAnswer(); err != nil {
		p.kill()
		return err
	}
	return nil
}

// awaitAnswer asks over the Unix socket, which no other server can answer on.
func (p *process) awaitAnswer() error {
	deadline := time.Now().Add(startTimeout)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ping(p.socket(), deadline)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no answer within %v: %w", startTimeout, err)
		}
		select {
		case <-p.exited:
			return errors.New("the server ended")
		case <-ticker.C:
		}
	}
}

// ping speaks to the server by hand: a client would log every refused dial.
func ping(socket string, deadline time.Time) error {
	conn, err := (&net.Dialer{Deadline: deadline}).Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if answer != "+PONG\r\n" {
		return fmt.Errorf("answer %q", answer) // still loading its data
	}
	return nil
}

func (p *process) client(database int) *redis.Client {
	return redis.NewClient(&redis.Options{
		Network: "unix", Addr: p.socket(), DB: database,
		DisableIdentity: true, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true,
	})
}

// kill ends the server with SIGKILL and waits until it is gone. It does nothing
// when the server is not running.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // fails only when it has ended by itself
	<-p.exited
	p.cmd = nil
}

func (p *process) signal(s syscall.Signal) error {
	if p.cmd == nil {
		return errors.New("redis-server is not running")
	}
	return p.cmd.Process.Signal(s)
}

// log returns the end of what the server wrote.
func (p *process) log() string {
	data, err := os.ReadFile(filepath.Join(p.dir, "redis.log"))
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-maxLog):])
}

// remove ends the server and deletes its files.
func (p *process) remove() error {
	p.kill()
	return os.RemoveAll(p.dir)
}
