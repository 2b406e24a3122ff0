package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
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
	buf    []byte
}

// offer publishes one event.
func (p *producer) offer(ctx context.Context) {
	seq := p.books.take()
	start := time.Now()
	p.buf = p.payloads.AppendEvent(p.buf[:0], seq, start)
	keyed := p.plan.keyed == 0 || seq%uint64(p.plan.keyed) == 0
	for {
		id, err := p.post(seq, keyed)
		if err != nil {
			p.books.unexpected(err.Error())
			return
		}
		if id != "" {
			p.books.accept(seq, id, time.Now())
			p.books.confirmed(time.Since(start))
			if keyed && seq%againEvery == 0 {
				if id, err := p.post(seq, true); err == nil && id != "" {
					p.books.accept(seq, id, time.Now())
				}
			}
			return
		}
		if !keyed {
			// It may be stored. Another event, which has a key, is offered in its place.
			p.books.giveUp()
			seq, keyed = p.books.take(), true
			p.buf = p.payloads.AppendEvent(p.buf[:0], seq, start)
		}
		if time.Since(start) > confirmTimeout || ctx.Err() != nil && time.Since(start) > confirmTimeout/2 {
			p.books.giveUp()
			return
		}
		// Sooner than Retry-After asks for: that is harder to bear.
		time.Sleep(time.Duration(50+p.random.IntN(150)) * time.Millisecond)
	}
}

// post makes one request. It returns the event's id, or "" when the event was not
// confirmed; an error is an answer that must not come. Without a key it is one that
// must not be repeated.
func (p *producer) post(seq uint64, keyed bool) (string, error) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI(p.api + "/api/v1/events")
	req.Header.SetMethod(fasthttp.MethodPost)
	req.Header.SetContentType("application/json")
	req.Header.Set("Authorization", "Bearer "+p.key)
	if keyed {
		req.Header.Set("Idempotency-Key", "chaos-"+strconv.FormatUint(seq, 10))
	}
	req.SetBodyRaw(p.buf)
	start := time.Now()
	if err := p.client.Do(req, resp); err != nil {
		p.books.refuse(seq, time.Since(start), true, false)
		return "", nil
	}
	switch status := resp.StatusCode(); status {
	case fasthttp.StatusAccepted:
		var answer struct{ ID string }
		if err := json.Unmarshal(resp.Body(), &answer); err != nil || answer.ID == "" {
			return "", fmt.Errorf("202 with %.200q", resp.Body())
		}
		return answer.ID, nil
	case fasthttp.StatusServiceUnavailable, fasthttp.StatusConflict: // not confirmed; being accepted
		p.books.refuse(seq, time.Since(start), status != fasthttp.StatusConflict, len(resp.Header.Peek("Retry-After")) == 0)
		return "", nil
	default:
		return "", fmt.Errorf("%d %.200s", status, resp.Body())
	}
}
