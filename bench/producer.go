package main

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/bench/internal/lab"
)

// producer posts events to one URL and keeps the books.
type producer struct {
	client   *fasthttp.HostClient
	uri      string
	key      string // "" in floor
	payloads *lab.Payloads
	ledger   *ledger
	status   int // the answer that counts as accepted
	batch    int // events a request; 1: no batch
	failed   atomic.Int64
	lastErr  atomic.Pointer[string]
}

func newProducer(target, key string, p *lab.Payloads, l *ledger, conns int) (*producer, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	addr := u.Host
	if u.Port() == "" {
		addr += map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	}
	return &producer{
		client: &fasthttp.HostClient{
			Addr: addr, IsTLS: u.Scheme == "https", MaxConns: conns,
			ReadTimeout: 20 * time.Second, WriteTimeout: 20 * time.Second, MaxConnWaitTimeout: 20 * time.Second,
			MaxIdleConnDuration: 30 * time.Second, NoDefaultUserAgentHeader: true,
		},
		uri: target, key: key, payloads: p, ledger: l, status: fasthttp.StatusAccepted, batch: 1,
	}, nil
}

// closedLoop keeps conns requests under way until ctx ends.
func (p *producer) closedLoop(ctx context.Context, conns int) {
	p.requests(ctx, math.MaxInt, conns)
}

// requests makes n requests, conns at a time.
func (p *producer) requests(ctx context.Context, n, conns int) {
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range conns {
		wg.Go(func() {
			var buf []byte
			for ctx.Err() == nil && left.Add(-1) >= 0 {
				first, ok := p.ledger.take(p.batch)
				if !ok {
					return
				}
				buf = p.post(buf, first, time.Now())
			}
		})
	}
	wg.Wait()
}

// openLoop starts a request at every 1/rate seconds, whether or not earlier
// ones are answered, and stamps each event with the time it was due: a stall
// then shows in the latency of every event that it delayed.
func (p *producer) openLoop(ctx context.Context, rate, workers int) {
	due := make(chan time.Time, workers*16)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			var buf []byte
			for at := range due {
				first, ok := p.ledger.take(p.batch)
				if !ok {
					return
				}
				buf = p.post(buf, first, at)
			}
		})
	}
	interval := time.Second / time.Duration(rate)
	next := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		if wait := time.Until(next); wait > 0 {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
			continue
		}
		select {
		case due <- next:
		default:
			p.failed.Add(1) // so far behind that even the queue of due requests is full
		}
		next = next.Add(interval)
	}
	close(due)
	wg.Wait()
}

// post sends one request with the events from first on and returns the buffer.
func (p *producer) post(buf []byte, first uint64, sent time.Time) []byte {
	buf = buf[:0]
	if p.batch > 1 {
		buf = append(buf, '[')
	}
	for i := range uint64(p.batch) {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = p.payloads.AppendEvent(buf, first+i, sent)
	}
	if p.batch > 1 {
		buf = append(buf, ']')
	}
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI(p.uri)
	req.Header.SetMethod(fasthttp.MethodPost)
	req.Header.SetContentType("application/json")
	if p.key != "" {
		req.Header.Set("Authorization", "Bearer "+p.key)
	}
	req.SetBodyRaw(buf)
	err := p.client.Do(req, resp)
	if err == nil && resp.StatusCode() == p.status {
		p.ledger.accept(first, p.batch, time.Since(sent))
		return buf
	}
	text := fmt.Sprint(err)
	if err == nil {
		text = fmt.Sprintf("%d %.200s", resp.StatusCode(), resp.Body())
	}
	p.lastErr.Store(&text)
	p.ledger.rejected.Add(int64(p.batch))
	return buf
}
