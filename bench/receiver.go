package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/bench/internal/lab"
	"github.com/sealpost/sealpost/core/sign"
)

// receiver is the customers' side: any number of endpoints on one listener,
// told apart by their path /<number>.
type receiver struct {
	listener net.Listener
	secure   net.Listener // the same with TLS; nil: none
	roots    []byte       // PEM: what secure's certificate is verified with
	server   *fasthttp.Server
	behave   atomic.Pointer[behaviour]
	served   atomic.Int64
	books
	second books // of the endpoints from secondOrganization on
}

// books is what the receiver keeps of an organization.
type books struct {
	ledger atomic.Pointer[ledger]
	keys   atomic.Pointer[[][]byte] // signing key of each endpoint
}

// secondOrganization is the number of a second organization's first endpoint:
// more than any first one has.
const secondOrganization = 1000

// of returns the books of an endpoint, and its number in them.
func (r *receiver) of(endpoint int) (*books, int) {
	if endpoint >= secondOrganization {
		return &r.second, endpoint - secondOrganization
	}
	return &r.books, endpoint
}

// behaviour says how an endpoint answers: nil, at once.
type behaviour func(endpoint int) (wait time.Duration, status int)

// verifyEvery is the share of deliveries whose signature is verified: all would
// make the receiver the bottleneck it must not be.
const verifyEvery = 16

func newReceiver(listen string) (*receiver, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	r := &receiver{listener: l}
	r.server = &fasthttp.Server{Handler: r.handle, NoDefaultServerHeader: true, ReadTimeout: time.Minute, Concurrency: 100_000, MaxRequestBodySize: 1 << 20}
	go r.server.Serve(l) //nolint:errcheck // ends with close
	return r, nil
}

func (r *receiver) close() { _ = r.server.Shutdown() }

// url returns the address of an endpoint.
func (r *receiver) url(endpoint int) string {
	return fmt.Sprintf("http://%s/%d", r.listener.Addr(), endpoint)
}

func (r *receiver) handle(ctx *fasthttp.RequestCtx) {
	now := time.Now()
	n := r.served.Add(1)
	endpoint, err := strconv.Atoi(string(ctx.Path()[1:]))
	if err != nil {
		ctx.SetStatusCode(fasthttp.StatusNotFound)
		return
	}
	books, number := r.of(endpoint)
	l := books.ledger.Load()
	if b := r.behave.Load(); b != nil {
		wait, status := (*b)(endpoint)
		if wait > 0 {
			time.Sleep(wait)
			now = time.Now()
		}
		if status != fasthttp.StatusOK {
			ctx.SetStatusCode(status)
			return
		}
	}
	if l == nil || l != books.ledger.Load() {
		return // the run that this belongs to is over
	}
	seq, sent, ok := lab.ReadEvent(ctx.PostBody())
	if !ok {
		l.forged.Add(1)
		return
	}
	if keys := books.keys.Load(); keys != nil && n%verifyEvery == 0 && number < len(*keys) {
		header := func(name string) string { return string(ctx.Request.Header.Peek(name)) }
		if sign.Verify((*keys)[number:number+1], header, ctx.PostBody(), now, time.Minute) != nil {
			l.forged.Add(1)
		}
	}
	l.receive(seq, number, sent, now)
}

// runReceiver is bench as a receiver alone.
func runReceiver(ctx context.Context, o *options) error {
	r, err := newReceiver(o.listen)
	if err != nil {
		return err
	}
	defer r.close()
	b := behaviour(func(int) (time.Duration, int) {
		if rand.Float64() < o.failures {
			return o.latency, fasthttp.StatusInternalServerError
		}
		return o.latency, fasthttp.StatusOK
	})
	r.behave.Store(&b)
	fmt.Printf("receiving on http://%s/0 (any number as path); Ctrl-C stops\n", r.listener.Addr())
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var before int64
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if n := r.served.Load(); n != before {
				fmt.Printf("%d requests, %d/s\n", n, n-before)
				before = n
			}
		}
	}
}
