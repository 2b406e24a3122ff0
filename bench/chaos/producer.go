package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	answerTimeout  = 10 * time.Second // of a request; a gateway answers within 2 s
	confirmTimeout = 60 * time.Second // how long an event is offered again
	againEvery     = 16               // accepted events of which one is offered once more
	minTick        = 2 * time.Millisecond
)

// publish offers events at the stream's rate until ctx ends, each of them, under
// one key, until it is accepted.
func (s *stream) publish(ctx context.Context, seed uint64) {
	due := make(chan struct{}) // unbuffered: what cannot be begun in time is left out
	client := s.client()
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for i := range s.plan.workers {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			p := &producer{stream: s, client: client, random: random}
			for range due {
				p.offer(ctx)
			}
		})
	}
	every := max(time.Second/time.Duration(s.plan.rate), minTick)
	tick := time.NewTicker(every)
	for begin, begun := time.Now(), 0; ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-tick.C:
			// Several a tick where the rate is high, and where a tick came late.
			want := int(time.Since(begin).Seconds() * float64(s.plan.rate))
			for ; begun < want; begun++ {
				select {
				case due <- struct{}{}:
				default:
				}
			}
		}
	}
	tick.Stop()
	close(due)
	wg.Wait()
}

// client returns what the stream's producers share.
func (s *stream) client() *fasthttp.HostClient {
	return &fasthttp.HostClient{
		Addr: strings.TrimPrefix(s.api, "http://"), MaxConns: 4 * s.plan.workers, ReadTimeout: answerTimeout, WriteTimeout: answerTimeout,
		NoDefaultUserAgentHeader: true, MaxIdemponentCallAttempts: 1,
	}
}

// producer is one of those that offer events at the same time.
type producer struct {
	*stream
	client *fasthttp.HostClient
	random *rand.Rand
	seqs   []uint64 // of the events of the request
	buf    []byte   // its body
}

// take begins another request.
func (p *producer) take(start time.Time) {
	p.seqs = p.seqs[:0]
	for range max(p.plan.batch, 1) {
		p.seqs = append(p.seqs, p.books.take())
	}
	if p.plan.batch == 0 {
		p.buf = p.payloads.AppendEvent(p.buf[:0], p.seqs[0], start)
		return
	}
	p.buf = append(p.buf[:0], '[')
	for i, seq := range p.seqs {
		if i > 0 {
			p.buf = append(p.buf, ',')
		}
		p.buf = p.payloads.AppendEvent(p.buf, seq, start)
	}
	p.buf = append(p.buf, ']')
}

// offer publishes one event, or a batch of them.
func (p *producer) offer(ctx context.Context) {
	start := time.Now()
	p.take(start)
	keyed := p.plan.keyed == 0 || p.seqs[0]%uint64(p.plan.keyed) == 0
	for {
		ids, err := p.post(keyed)
		if err != nil {
			p.books.unexpected(err.Error())
			return
		}
		if ids != nil {
			p.accept(ids)
			p.books.confirmed(time.Since(start))
			if keyed && p.random.IntN(againEvery) == 0 {
				if ids, err := p.post(true); err == nil {
					p.accept(ids)
				}
			}
			return
		}
		if !keyed {
			// It may be stored. Another event, which has a key, is offered in its place.
			p.books.giveUp(len(p.seqs))
			p.take(start)
			keyed = true
		}
		if time.Since(start) > confirmTimeout || ctx.Err() != nil && time.Since(start) > confirmTimeout/2 {
			p.books.giveUp(len(p.seqs))
			return
		}
		// Sooner than Retry-After asks for: that is harder to bear.
		time.Sleep(time.Duration(50+p.random.IntN(150)) * time.Millisecond)
	}
}

// accept notes what a 202 told.
func (p *producer) accept(ids []string) {
	now := time.Now()
	for i, id := range ids {
		p.books.accept(p.seqs[i], id, now)
	}
}

// post makes one request. It returns the events' ids, or nil when they were not
// confirmed; an error is an answer that must not come. Without a key it is one that
// must not be repeated.
func (p *producer) post(keyed bool) ([]string, error) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	path := "/api/v1/events"
	if p.plan.batch > 0 {
		path += "/batch"
	}
	req.SetRequestURI(p.api + path)
	req.Header.SetMethod(fasthttp.MethodPost)
	req.Header.SetContentType("application/json")
	req.Header.Set("Authorization", "Bearer "+p.key)
	if keyed {
		req.Header.Set("Idempotency-Key", "chaos-"+strconv.FormatUint(p.seqs[0], 10))
	}
	req.SetBodyRaw(p.buf)
	start := time.Now()
	if err := p.client.Do(req, resp); err != nil {
		p.books.refuse(p.seqs, time.Since(start), true, false)
		return nil, nil
	}
	switch status := resp.StatusCode(); status {
	case fasthttp.StatusAccepted:
		return p.idsIn(resp.Body())
	case fasthttp.StatusServiceUnavailable, fasthttp.StatusConflict: // not confirmed; being accepted
		p.books.refuse(p.seqs, time.Since(start), status != fasthttp.StatusConflict, len(resp.Header.Peek("Retry-After")) == 0)
		return nil, nil
	default:
		return nil, fmt.Errorf("%d %.200s", status, resp.Body())
	}
}

// idsIn returns the ids of the request's events.
func (p *producer) idsIn(answer []byte) ([]string, error) {
	type item struct{ ID string }
	var one struct {
		item
		Data []item
	}
	err := json.Unmarshal(answer, &one)
	if p.plan.batch == 0 {
		one.Data = []item{one.item}
	}
	ids := make([]string, len(one.Data))
	for i := range ids {
		ids[i] = one.Data[i].ID
	}
	if err != nil || len(ids) != len(p.seqs) || slices.Contains(ids, "") {
		return nil, fmt.Errorf("202 with %.200q", answer)
	}
	return ids, nil
}
