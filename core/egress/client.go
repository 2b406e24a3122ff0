package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/core"
)

const (
	// tlsSessions bounds the cache of TLS sessions; one is a few KB.
	tlsSessions = 1024

	// aliveWithin is how long after its last use a connection is taken to be
	// alive without looking.
	aliveWithin = 10 * time.Millisecond
)

// Client sends requests. It is safe for concurrent use.
type Client struct {
	allowHTTP   bool
	now         func() time.Time
	guard       *guard
	dialer      net.Dialer
	nameServers []nameServer // empty: the system's resolver
	tls         tls.Config   // to be cloned
	fixed       []byte       // header lines that every request has, up to the length of its body
	pool        *pool
	scratch     sync.Pool // of *scratch

	fresh, reused, resent prometheus.Counter

	stop    chan struct{}
	stopped sync.WaitGroup
	once    sync.Once
}

// New returns a client and starts the goroutine that closes idle connections;
// Close ends it. The error is about a limit or a metric that is
// registered already.
func New(o Options) (*Client, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	connections := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sealpost_sender_connections_total",
		Help: "Connections taken for a request, by whether they were used before.",
	}, []string{"reused"})
	resent := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sealpost_sender_requests_resent_total",
		Help: "Requests sent again on a fresh connection because the reused one turned out to be closed.",
	})
	hosts := newPool(&o)
	idle := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sealpost_sender_idle_connections", Help: "Connections to receivers that are kept for their next request.",
	}, func() float64 { return float64(hosts.idleNow()) })
	if o.Registerer != nil {
		for _, c := range []prometheus.Collector{connections, resent, idle} {
			if err := o.Registerer.Register(c); err != nil {
				return nil, err
			}
		}
	}
	judge := newGuard(o.AllowNets, o.DenyAddrs)
	c := &Client{
		guard:       judge,
		allowHTTP:   o.AllowHTTP,
		now:         o.Now,
		dialer:      net.Dialer{Control: judge.control},
		nameServers: newNameServers(o.DNSServers),
		tls: tls.Config{
			RootCAs:            o.RootCAs,
			MinVersion:         tls.VersionTLS12,
			NextProtos:         []string{"http/1.1"},
			ClientSessionCache: tls.NewLRUClientSessionCache(tlsSessions),
		},
		fixed:   []byte("user-agent: " + o.UserAgent + "\r\ncontent-type: application/json\r\ncontent-length: "),
		pool:    hosts,
		scratch: sync.Pool{New: func() any { return newScratch() }},
		fresh:   connections.WithLabelValues("false"),
		reused:  connections.WithLabelValues("true"),
		resent:  resent,
		stop:    make(chan struct{}),
	}
	c.stopped.Go(func() { c.reapIdle(o.IdleTimeout / 2) })
	return c, nil
}

func (c *Client) reapIdle(every time.Duration) {
	ticker := time.NewTicker(max(every, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-ticker.C:
			c.pool.reap()
		}
	}
}

// Close closes the idle connections and waits for the client's goroutine. A Post
// that waits for a connection, or comes later, ends with ErrClosed; one that is
// running goes on, and its connection is closed after it.
func (c *Client) Close() {
	c.once.Do(func() { close(c.stop) })
	c.stopped.Wait()
	c.pool.close()
}

// Deny replaces Options.DenyAddrs. Connections that exist are not touched.
func (c *Client) Deny(addrs []netip.AddrPort) { c.guard.deny(addrs) }

// DropIdle closes the idle connections to t's scheme, host and port, and lets
// those in use end with the request that they serve. Other endpoints on the same
// host share them; they dial again.
func (c *Client) DropIdle(t *Target) { c.pool.dropIdle(t.key) }

// Post sends one POST request to t and reads the response. began is now, by
// Options.Now: callers have read it for themselves, and each reading of the clock is
// a hundredth of what a request costs. Everything, from waiting for a connection to the last
// byte of the (capped) body, ends timeout after it at the latest, or when ctx is done.
// See Result for what comes back.
//
// If a connection that was used before turns out to be closed before any byte of
// a response, the request is sent once more on a fresh one. The receiver may then
// see it twice, under the same webhook-id.
func (c *Client) Post(ctx context.Context, began time.Time, timeout time.Duration, t *Target, compose Compose) Result {
	deadline := began.Add(timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	a := attempt{client: c, ctx: ctx, began: began, deadline: deadline, target: t, compose: compose}
	a.run()
	if a.ended.IsZero() {
		a.ended = c.now()
	}
	a.result.Total = a.ended.Sub(began)
	return a.result
}

// attempt is one Post on its way.
type attempt struct {
	client   *Client
	ctx      context.Context
	began    time.Time
	ended    time.Time // zero: not yet, or without a response
	deadline time.Time
	target   *Target
	compose  Compose
	result   Result
}

func (a *attempt) run() {
	if !a.target.https && !a.client.allowHTTP {
		a.result.Reason, a.result.Err = core.ReasonBlocked, errPlainHTTP
		return
	}
	g := a.acquire()
	if g.err != nil {
		a.result.Err = g.err
		return
	}
	if g.conn != nil {
		g.generation = g.conn.generation
		a.result.Reused = true
		a.client.reused.Inc()
		if stale := a.exchange(g.conn); !stale {
			return
		}
		a.result.Reused, a.result.Resent = false, true
		a.client.resent.Inc()
	}
	fresh := a.dial(g.generation)
	if fresh == nil {
		a.client.pool.free(a.target.key)
		return
	}
	a.client.fresh.Inc()
	a.exchange(fresh)
}

// acquire returns a connection that is alive or the permission to dial one.
func (a *attempt) acquire() grant {
	for {
		g := a.client.pool.get(a.ctx, a.began, a.deadline, a.target.key)
		if g.conn == nil || a.began.Sub(g.conn.idleSince) < aliveWithin || g.conn.socket.alive() {
			return g
		}
		a.client.pool.drop(g.conn)
	}
}

// fail notes why there is no response. reason is what the phase calls a failure
// that is neither the deadline's nor ctx's doing.
func (a *attempt) fail(reason core.Reason, err error) {
	switch {
	case a.ctx.Err() == context.Canceled:
		// We ended it. Before the first byte that is no attempt; after it the
		// receiver saw a connection break.
		a.result.Err = context.Cause(a.ctx)
		if a.result.Started {
			a.result.Reason = core.ReasonConnectionLost
		}
	case a.late(a.client.now()):
		a.result.Reason, a.result.Err = core.ReasonTimeout, shorten(err)
	default:
		a.result.Reason, a.result.Err = reason, shorten(err)
	}
}

func (a *attempt) late(now time.Time) bool { return !now.Before(a.deadline) }

// maxErrorLength bounds an error's text, in bytes.
const maxErrorLength = 256

// shorten returns err, or the beginning of its text if that is long: a
// certificate's error names every name that the peer put into it.
func shorten(err error) error {
	text := err.Error()
	if len(text) <= maxErrorLength {
		return err
	}
	return errors.New(text[:maxErrorLength] + "…")
}
