package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sealpost/sealpost/core/gateway"
)

// What one of each costs at most, see docs/RELIABILITY.md, "Abuse".
const (
	programMemory    = 64 << 20 // bytes: program, caches, what good clients keep busy
	connectionMemory = 32 << 10 // bytes: buffers, a request and its headers, a stack
	bodyMemory       = 2        // bytes for each byte of a body: buffers grow by doubling
	collector        = 2        // the heap may double before garbage is collected

	programFiles = 128 // Redis, listeners, logs
	goodClients  = 128 // connections
)

// The good clients' p99 may be twice what it is without abuse. What is below the
// floor passes in any case, and what the machine alone adds is allowed: an event goes
// from process to process twice as often as a PING, and there and back again.
const (
	mostSlowdown  = 2
	slowdownFloor = 25.0 // ms
	pingsPerEvent = 4
)

// abuse takes memory, files and time, beside good clients.
type abuse struct {
	connections int   // to the gateway at once
	bodies      int64 // bytes of request bodies that the gateway holds for them
	lasts       time.Duration
	attack      func(ctx context.Context, a *attack) error // until ctx ends
}

// attack is what attackers share.
type attack struct {
	w     *world // nil in a process of attackers
	addr  string // of the gateway
	key   string // an API key of their own organization, which has no endpoints
	quick bool
	begun func(abuse string) // called once the abuse is as bad as it gets

	dialled atomic.Int64 // connections tried

	done atomic.Int64 // connections or requests made
	mu   sync.Mutex
	odd  []string // the first few things that must not be
}

// strain is what an abuse did to Sealpost and to good clients.
type strain struct {
	Abuse string `json:"abuse"`

	GatewayMemory     int64 `json:"gateway_peak_bytes"`
	GatewayMemoryMost int64 `json:"gateway_most_bytes"`
	SenderMemory      int64 `json:"sender_peak_bytes"`
	SenderMemoryMost  int64 `json:"sender_most_bytes"`
	GatewayFiles      int   `json:"gateway_peak_files"`
	GatewayFilesMost  int   `json:"gateway_most_files"`
	SenderFiles       int   `json:"sender_peak_files"`
	SenderFilesMost   int   `json:"sender_most_files"`

	AcceptBefore  float64 `json:"accept_p99_before_ms"`
	Accept        float64 `json:"accept_p99_ms"`
	ArrivalBefore float64 `json:"arrival_p99_before_ms"`
	Arrival       float64 `json:"arrival_p99_ms"`
	PingBefore    float64 `json:"ping_p99_before_ms"`
	Ping          float64 `json:"ping_p99_ms"`
}

// run measures good clients without the abuse and with it.
func (ab abuse) run(ctx context.Context, w *world) error {
	key, err := w.stack.CreateKey(ctx, "abuser")
	if err != nil {
		return err
	}
	if err := sleep(ctx, w.long(2*time.Second, 200*time.Millisecond)); err != nil { // warm up
		return err
	}
	before, err := w.measure(ctx, w.long(4*time.Second, 500*time.Millisecond))
	if err != nil {
		return err
	}
	a := &attack{w: w, addr: strings.TrimPrefix(w.stack.API, "http://"), key: key, quick: w.o.quick}
	s := &strain{AcceptBefore: p99(before.accepts), ArrivalBefore: p99(before.arrivals), PingBefore: p99(before.pings)}
	w.res.Strain = s
	during, err := ab.strain(ctx, a, s)
	if err != nil {
		return err
	}
	s.Accept, s.Arrival, s.Ping = p99(during.accepts), p99(during.arrivals), p99(during.pings)
	if w.res.Injected = int(a.done.Load()); w.res.Injected == 0 {
		w.broken("the attack was none")
	}
	for _, text := range a.odd {
		w.broken("%s", text)
	}
	ab.judge(w, s)
	return nil
}

// strain attacks, and watches.
func (ab abuse) strain(ctx context.Context, a *attack, s *strain) (*waits, error) {
	attacked, stop := context.WithCancel(ctx)
	defer stop()
	failed, ready := make(chan error, 1), make(chan struct{})
	a.begun = func(abuse string) {
		s.Abuse = abuse
		close(ready)
	}
	watched, unwatch := context.WithCancel(attacked)
	var wg, watching sync.WaitGroup
	wg.Go(func() { failed <- ab.attack(attacked, a) })
	watching.Go(func() { s.watch(watched, a.w) })
	defer watching.Wait()
	defer unwatch()
	defer wg.Wait()
	defer stop()
	select {
	case <-ready:
	case err := <-failed:
		return nil, errors.Join(errors.New("the attack ended early"), err)
	}
	during, err := a.w.measure(ctx, a.w.long(ab.lasts, 1500*time.Millisecond))
	unwatch()
	watching.Wait()
	s.look(a.w)
	stop()
	return during, errors.Join(err, <-failed)
}

const (
	watchEvery = 700 * time.Millisecond

	// cheapLook is how long counting open files may take to be done while good clients
	// are measured. Ten thousands of them keep a core busy for tens of milliseconds, and
	// would be all that is measured.
	cheapLook = 2 * time.Millisecond
)

// watch notes the peaks until ctx ends, as long as that is cheap.
func (s *strain) watch(ctx context.Context, w *world) {
	for {
		began := time.Now()
		s.look(w)
		if time.Since(began) > cheapLook {
			return
		}
		if sleep(ctx, watchEvery) != nil {
			return
		}
	}
}

// look notes what is more than before.
func (s *strain) look(w *world) {
	s.GatewayFiles = max(s.GatewayFiles, w.stack.Gateway.Files())
	s.GatewayMemory = w.stack.Gateway.PeakMemory()
	for _, p := range w.stack.Senders {
		s.SenderFiles = max(s.SenderFiles, p.Files())
		s.SenderMemory = max(s.SenderMemory, p.PeakMemory())
	}
}

// judge compares the strain with what the settings allow.
func (ab abuse) judge(w *world, s *strain) {
	connections := ab.connections + goodClients
	s.GatewayMemoryMost = programMemory + collector*(int64(connections)*connectionMemory+ab.bodies*bodyMemory)
	s.GatewayFilesMost = connections + programFiles
	s.SenderMemoryMost = mostSenderMemory
	s.SenderFilesMost = programFiles
	for _, p := range w.streams { // connections that lie idle
		s.SenderFilesMost += p.plan.endpoints * idlePerHost
	}
	s.SenderFilesMost += attemptsPerCore * runtime.NumCPU()
	most := func(what string, got, most int64) {
		if got > most {
			w.broken("%s: %d, at most %d are allowed", what, got, most)
		}
	}
	most("bytes of the gateway", s.GatewayMemory, s.GatewayMemoryMost)
	most("bytes of a sender", s.SenderMemory, s.SenderMemoryMost)
	most("files of the gateway", int64(s.GatewayFiles), int64(s.GatewayFilesMost))
	most("files of a sender", int64(s.SenderFiles), int64(s.SenderFilesMost))
	if w.o.quick {
		return // too short for a p99
	}
	machine := pingsPerEvent * max(s.Ping-s.PingBefore, 0)
	slow := func(what string, before, with float64) {
		if with > slowdownFloor && with > mostSlowdown*before+machine {
			w.broken("%s: p99 %.1f ms, without the abuse %.1f ms, and the machine accounts for %.1f ms", what, with, before, machine)
		}
	}
	slow("accepted", s.AcceptBefore, s.Accept)
	slow("received", s.ArrivalBefore, s.Arrival)
}

// What a sender does at once: attempts that hold one of 64 slots of each core, four
// times as many that left theirs, and idle connections.
const (
	attemptsPerCore = 64 * (1 + 4)
	idlePerHost     = 128
)

// begin says that the abuse is as bad as it gets.
func (a *attack) begin(abuse string, args ...any) {
	a.begun(fmt.Sprintf(abuse, args...))
}

// times returns how many of something there are to be.
func (a *attack) times(full, quick int) int {
	if a.quick {
		return quick
	}
	return full
}

// crowd runs n attackers until ctx ends, each again and again.
func (a *attack) crowd(ctx context.Context, wg *sync.WaitGroup, n int, attacker func(ctx context.Context, i int)) {
	for i := range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				attacker(ctx, i)
			}
		})
	}
}

// complain notes what must not be.
func (a *attack) complain(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.odd) < 5 {
		a.odd = append(a.odd, fmt.Sprintf(format, args...))
	}
}

// dial opens a connection to the gateway that is closed when ctx ends. Nil: it
// could not be, and a while has passed.
func (a *attack) dial(ctx context.Context) (c net.Conn, hangUp func()) {
	var err error
	dialer := net.Dialer{Timeout: answerTimeout, LocalAddr: from(a.dialled.Add(1))}
	c, err = dialer.DialContext(ctx, "tcp", a.addr)
	if errors.Is(err, syscall.EADDRNOTAVAIL) { // not all of 127.0.0.0/8 is this machine here
		dialer.LocalAddr = nil
		c, err = dialer.DialContext(ctx, "tcp", a.addr)
	}
	if err != nil {
		_ = sleep(ctx, time.Second)
		return nil, nil
	}
	a.done.Add(1)
	unhook := context.AfterFunc(ctx, func() { _ = c.Close() })
	return c, func() {
		unhook()
		_ = c.Close()
	}
}

// attackers is from how many addresses attackers come.
const attackers = 200

// from returns the address of attacker n, nil where there is only one. All of them
// have this machine's kernel in common: from a single address it would search through
// the ports of ten thousand connections for each new one, for milliseconds in which
// nobody else runs on that processor.
func from(n int64) net.Addr {
	if runtime.GOOS != "linux" { // where all of 127.0.0.0/8 is the machine itself
		return nil
	}
	return &net.TCPAddr{IP: net.IPv4(127, 1, 0, byte(1+n%attackers))}
}

// mostConnections is how many the gateway takes, with those that it is closing.
const mostConnections = gateway.DefaultMaxConns + 256
