package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// RedisOptions say how a redis-server is run. Its zero value is the usual one.
type RedisOptions struct {
	Fsync     string // appendfsync; "": everysec
	MaxMemory string // maxmemory; "": none
}

// Redis is a redis-server with an append-only file.
type Redis struct {
	*Process
	Addr string // stays the same over restarts
	Data string // its folder

	dir string
	o   RedisOptions
}

// StartRedis starts a redis-server on a free port, whose data and log are in dir.
func StartRedis(dir string, o RedisOptions) (*Redis, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Redis{Addr: l.Addr().String(), Data: filepath.Join(dir, "redis"), dir: dir, o: o}
	l.Close()
	if err := os.MkdirAll(r.Data, 0o700); err != nil {
		return nil, err
	}
	return r, r.Start()
}

// Fsync returns the server's appendfsync.
func (r *Redis) Fsync() string {
	if r.o.Fsync == "" {
		return "everysec"
	}
	return r.o.Fsync
}

// Start starts the server, for the first time or with the data of an earlier run.
// It returns once the server takes connections, which it may answer with LOADING.
func (r *Redis) Start() error {
	memory := r.o.MaxMemory
	if memory == "" {
		memory = "0"
	}
	_, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		return err
	}
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", r.Data, "--appendonly", "yes",
		"--appendfsync", r.Fsync(), "--save", "", "--rdbcompression", "no", "--auto-aof-rewrite-min-size", "512mb", "--hash-max-listpack-value", "256",
		"--maxmemory", memory, "--maxmemory-policy", "noeviction", "--logfile", filepath.Join(r.dir, "redis.log"))
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start redis-server (is it installed?): %w", err)
	}
	p := &Process{Name: "redis", cmd: cmd, done: make(chan struct{})}
	go func() { _ = cmd.Wait(); close(p.done) }() // owned by the process: ends with it
	r.Process = p
	for deadline := time.Now().Add(startTimeout); ; {
		conn, err := net.Dial("tcp", r.Addr)
		if err == nil {
			conn.Close()
			return nil
		}
		select {
		case <-p.done:
			return errors.New("redis-server ended")
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.Stop()
			return errors.New("redis-server does not answer")
		}
	}
}
