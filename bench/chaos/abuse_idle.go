package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// idleConnections are more than a gateway takes.
	idleConnections = mostConnections + 400

	// ownFiles is how many files the process that holds them needs beside.
	ownFiles = 100

	holderEnds = 10 * time.Second // at most, once it is told to

	idleRate = 2500 // connections a second, until they are all there
)

// holdRole, as the first argument, makes this program a process that does nothing but
// hold connections: `hold-connections ADDRESS COUNT`. In the process of the good
// clients the collector would look through ten thousands of goroutines while these
// wait, and what they wait for would be their own harness.
const holdRole = "hold-connections"

// held is what such a process says, as a line of JSON, once all connections are settled and
// when it ends.
type held struct {
	Open int64    `json:"open"`
	Shed int64    `json:"shed"`
	Made int64    `json:"made"`
	Odd  []string `json:"odd"` // what must not be
}

// idle opens more connections than the gateway takes and, where that was served,
// makes one request on each and then none. What is refused comes again.
func idle(ctx context.Context, a *attack) (err error) {
	n := a.w.times(min(idleConnections, max(fileLimit()-ownFiles, 100)), 500)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	holder := exec.Command(self, holdRole, a.addr, strconv.Itoa(n))
	holder.Stderr = os.Stderr
	end, err := holder.StdinPipe()
	if err != nil {
		return err
	}
	says, err := holder.StdoutPipe()
	if err != nil {
		return err
	}
	if err := holder.Start(); err != nil {
		return err
	}
	unhook := context.AfterFunc(ctx, func() { _ = end.Close() })
	defer func() {
		unhook()
		_ = end.Close()
		stuck := time.AfterFunc(holderEnds, func() { _ = holder.Process.Kill() })
		err = errors.Join(err, holder.Wait())
		stuck.Stop()
	}()
	var h held
	lines := json.NewDecoder(says)
	if err := lines.Decode(&h); err != nil {
		return fmt.Errorf("settling idle connections: %w", err)
	}
	a.begin("%d connections, of which %d are held, idle, and %d were shed", n, h.Open, h.Shed)
	open, shed := h.Open, h.Shed
	if err := lines.Decode(&h); err != nil {
		return fmt.Errorf("holding idle connections: %w", err)
	}
	a.done.Add(h.Made)
	for _, odd := range h.Odd {
		a.complain("%s", odd)
	}
	if open > mostConnections {
		a.complain("the gateway holds %d connections", open)
	}
	if open < int64(min(n, 1000)/2) {
		a.complain("the gateway holds %d of %d connections only", open, n)
	}
	if n > mostConnections && shed == 0 {
		a.complain("none of %d connections was shed", n)
	}
	return nil
}

// holdConnections is the process of holdRole. It ends when its standard input does.
func holdConnections(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%s needs an address and a count", holdRole)
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	a := &attack{addr: args[0]}
	var open, shed, settled atomic.Int64
	say := func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		return json.NewEncoder(os.Stdout).Encode(held{Open: open.Load(), Shed: shed.Load(), Made: a.done.Load(), Odd: a.odd})
	}
	var wg sync.WaitGroup
	a.crowd(ctx, &wg, n, func(ctx context.Context, i int) { a.hold(ctx, i, &open, &shed, &settled) })
	a.await(ctx, func() bool { return settled.Load() >= int64(n) })
	_ = sleep(ctx, 3*time.Second) // what opening them left to do is done
	err = say()
	wg.Wait()
	return errors.Join(err, say())
}

// hold keeps connection i open.
func (a *attack) hold(ctx context.Context, i int, open, shed, settled *atomic.Int64) {
	// Not all at once: the kernel's queue of connections is what would drop them.
	if sleep(ctx, time.Duration(i)*time.Second/idleRate) != nil {
		return
	}
	settle := sync.OnceFunc(func() { settled.Add(1) })
	for ctx.Err() == nil {
		c, hangUp := a.dial(ctx)
		if c == nil {
			continue
		}
		_, _ = io.WriteString(c, "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		switch {
		case err != nil: // refused before the request had been read
		case answer.StatusCode == http.StatusRequestTimeout: // a busy machine: it arrived too late
			_ = answer.Body.Close()
		case answer.StatusCode == http.StatusNotFound:
			_ = answer.Body.Close()
			open.Add(1)
			settle()
			_, _ = io.Copy(io.Discard, c)
			open.Add(-1)
		case answer.StatusCode == http.StatusServiceUnavailable:
			if answer.Header.Get("Retry-After") == "" {
				a.complain("503 without Retry-After")
			}
			_ = answer.Body.Close()
		default:
			a.complain("an idle connection's request was answered %d", answer.StatusCode)
		}
		hangUp()
		if ctx.Err() == nil {
			shed.Add(1)
			settle()
		}
		_ = sleep(ctx, 2*time.Second+rand.N(2*time.Second)) // not all in one moment
	}
}
