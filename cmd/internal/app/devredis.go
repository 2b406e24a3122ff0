package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// devRedis is the Redis of `gateway dev`: a child redis-server that writes an
// append-only file where one is installed, else a simulation in memory.
type devRedis struct {
	url         string // for SEALPOST_REDIS_URL
	description string // for the person who started it
	run         func(context.Context) error
}

// redisStart bounds how long the child may take to answer.
const redisStart = 10 * time.Second

// startDevRedis starts a Redis that keeps its data in dir, or one in memory if
// memory is asked for or no redis-server is installed.
func startDevRedis(ctx context.Context, dir string, memory bool, log *slog.Logger) (*devRedis, error) {
	if binary, err := exec.LookPath("redis-server"); err == nil && !memory {
		return startChildRedis(ctx, binary, dir, log)
	}
	advice := ""
	if !memory {
		advice = " (install redis-server to keep it)"
	}
	simulated := miniredis.NewMiniRedis()
	simulated.ClockTTL(true) // its keys expire by the clock, as in Redis
	if err := simulated.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("start the embedded Redis: %w", err)
	}
	return &devRedis{
		url:         "redis://" + simulated.Addr() + "/0",
		description: "embedded, in memory: EVERYTHING IS FORGOTTEN when this process ends" + advice,
		run: func(ctx context.Context) error {
			<-ctx.Done()
			simulated.Close()
			return nil
		},
	}, nil
}

// startChildRedis starts a redis-server on a socket in dir. A server that an
// earlier, killed run left behind there is ended first: the lock on dir proves
// that nobody uses it.
func startChildRedis(ctx context.Context, binary, dir string, log *slog.Logger) (*devRedis, error) {
	socket := filepath.Join(dir, "redis.sock")
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, MaxRetries: -1, DisableIdentity: true})
	defer client.Close()
	if client.Ping(ctx).Err() == nil {
		log.Info("ending the redis-server that an earlier run left behind")
		client.Shutdown(ctx) // closes the connection instead of answering
	}
	output, err := os.OpenFile(filepath.Join(dir, "redis.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of redis-server: %w", err)
	}
	defer output.Close()
	child := exec.Command(binary, "--port", "0", "--unixsocket", socket, "--unixsocketperm", "700",
		"--dir", dir, "--maxmemory", "1gb", "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction",
		"--hash-max-listpack-value", "256")
	child.Stdout, child.Stderr = output, output
	child.SysProcAttr = childAttributes()
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		// On Linux the child ends with the thread that started it, so this one is
		// kept until then.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := child.Start()
		started <- err
		if err == nil {
			ended <- child.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	if err := awaitRedis(ctx, client, ended); err != nil {
		child.Process.Kill()
		return nil, fmt.Errorf("redis-server does not answer: %w; its last words: %s", err, lastLine(output.Name()))
	}
	return &devRedis{
		url:         "unix://" + socket + "?db=0",
		description: "redis-server with an append-only file in " + dir,
		run: func(ctx context.Context) error {
			select {
			case err := <-ended:
				return fmt.Errorf("redis-server ended: %w", errors.Join(err, errStoppedEarly))
			case <-ctx.Done():
			}
			if err := child.Process.Signal(syscall.SIGTERM); err != nil {
				return fmt.Errorf("stop redis-server: %w", err)
			}
			if err := <-ended; err != nil {
				return fmt.Errorf("redis-server ended: %w", err)
			}
			return nil
		},
	}, nil
}

// lastLine returns the end of a log file.
func lastLine(file string) string {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return lines[len(lines)-1]
}

// awaitRedis returns once the server answers, or why it never will.
func awaitRedis(ctx context.Context, client *redis.Client, ended <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, redisStart)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := client.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		select {
		case ended := <-ended:
			return fmt.Errorf("it ended (%v)", ended)
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// lockDir creates dir for this user alone and locks it for this process.
func lockDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("another `gateway dev` uses %s; stop it, or give this one its own --data-dir", dir)
	}
	return func() { lock.Close() }, nil
}
