package main

import (
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/bench/internal/lab"
	"github.com/sealpost/sealpost/core/sign"
)

// receiver is the customers' side: the endpoint <n> of stream <s> is at /<s>/<n>.
type receiver struct {
	listener net.Listener
	server   *fasthttp.Server
	streams  atomic.Pointer[[]*stream]
	behave   atomic.Pointer[behaviour]
	inFlight atomic.Int64
	requests atomic.Int64
}

// behaviour says how an endpoint answers; nil: at once with 200.
type behaviour func(stream, endpoint int) answer

// answer is that of an endpoint. With status 0 it is 200, and the books are not
// told: only 200 counts as a receipt.
type answer struct {
	wait   time.Duration
	status int
	raw    func(net.Conn) // writes the answer in place of the server; nil: the server does
}

func newReceiver() (*receiver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{listener: l}
	r.server = &fasthttp.Server{Handler: r.handle, NoDefaultServerHeader: true, Logger: silent{}, Concurrency: 10_000, MaxRequestBodySize: 1 << 20}
	go r.server.Serve(l) //nolint:errcheck // ends with close
	return r, nil
}

func (r *receiver) close() { _ = r.server.Shutdown() }

// turn sets the behaviour of endpoints from now on.
func (r *receiver) turn(b behaviour) {
	if b == nil {
		r.behave.Store(nil)
		return
	}
	r.behave.Store(&b)
}

func (r *receiver) handle(ctx *fasthttp.RequestCtx) {
	r.requests.Add(1)
	r.inFlight.Add(1)
	defer r.inFlight.Add(-1)
	first, second, _ := strings.Cut(string(ctx.Path()[1:]), "/")
	number, err1 := strconv.Atoi(first)
	endpoint, err2 := strconv.Atoi(second)
	streams := r.streams.Load()
	if err1 != nil || err2 != nil || streams == nil || number >= len(*streams) {
		ctx.SetStatusCode(fasthttp.StatusNotFound)
		return
	}
	a := answer{status: fasthttp.StatusOK}
	if b := r.behave.Load(); b != nil {
		a = (*b)(number, endpoint)
		time.Sleep(a.wait)
	}
	switch {
	case a.status == 0:
	case a.status == fasthttp.StatusOK:
		header := func(name string) string { return string(ctx.Request.Header.Peek(name)) }
		(*streams)[number].receive(endpoint, header, ctx.PostBody())
	default:
		ctx.SetStatusCode(a.status)
	}
	if a.raw != nil {
		ctx.HijackSetNoResponse(true)
		ctx.Hijack(a.raw)
	}
}

// receive verifies a request to an endpoint and notes it.
func (s *stream) receive(endpoint int, header func(string) string, body []byte) {
	now := time.Now()
	seq, _, ok := lab.ReadEvent(body)
	if !ok || endpoint >= len(s.secrets) || sign.Verify(s.secrets[endpoint:endpoint+1], header, body, now, time.Minute) != nil {
		s.books.forge()
		return
	}
	s.books.receive(seq, endpoint, header(sign.HeaderID), now)
}

// silent drops what fasthttp would log about connections that faults end.
type silent struct{}

func (silent) Printf(string, ...any) {}
