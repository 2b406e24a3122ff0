package sender

import (
	"bufio"
	"context"
	"fmt"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
)

// stubStore keeps everything in memory. A func field, where set, is asked first;
// its error ends the call with nothing done.
type stubStore struct {
	recordsFunc func(context.Context, []core.EndpointRef) error
	answerFunc  func([]*core.Endpoint) // delays the answer of Records
	cluster     bool
	recordFunc  func(core.Record) error
	deadFunc    func([]core.DeadLetter) error
	updateFunc  func(core.EndpointRef) error

	trace *trace
	*stubBacklogs

	mu        sync.Mutex
	endpoints map[core.EndpointRef]core.Endpoint
	reads     int
	records   []core.Record
	dead      map[string]core.DeadLetter // by delivery: adding is idempotent
}

func (s *stubStore) Records(ctx context.Context, refs []core.EndpointRef) ([]*core.Endpoint, error) {
	if s.recordsFunc != nil {
		if err := s.recordsFunc(ctx, refs); err != nil {
			return nil, err
		}
	}
	out := s.lookup(refs)
	if s.answerFunc != nil {
		s.answerFunc(out)
	}
	return out, nil
}

func (s *stubStore) lookup(refs []core.EndpointRef) []*core.Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	out := make([]*core.Endpoint, len(refs))
	for i, ref := range refs {
		if e, ok := s.endpoints[ref]; ok {
			e.Secrets = slices.Clone(e.Secrets)
			s.fill(&e)
			out[i] = &e
		}
	}
	return out
}

func (s *stubStore) Record(_ context.Context, r core.Record) error {
	s.trace.add("record")
	if s.recordFunc != nil {
		if err := s.recordFunc(r); err != nil {
			return err
		}
	}
	s.remove(r.Drained)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, r)
	return nil
}

func (s *stubStore) OneNode() bool { return !s.cluster }

func (s *stubStore) AddDeadLetters(_ context.Context, letters []core.DeadLetter) error {
	s.trace.add("dead")
	if s.deadFunc != nil {
		if err := s.deadFunc(letters); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range letters {
		s.dead[l.Delivery.ID] = l
	}
	return nil
}

func (s *stubStore) UpdateEndpoint(_ context.Context, ref core.EndpointRef, change func(*core.Endpoint) error) (*core.Endpoint, error) {
	s.trace.add("update")
	if s.updateFunc != nil {
		if err := s.updateFunc(ref); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.endpoints[ref]
	if !ok {
		return nil, core.NotFound("webhook")
	}
	if err := change(&e); err != nil {
		return nil, err
	}
	e.Revision++
	s.endpoints[ref] = e
	return &e, nil
}

// set changes the endpoint's record as the API would.
func (s *stubStore) set(ref core.EndpointRef, change func(*core.Endpoint)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.endpoints[ref]
	url := e.URL
	change(&e)
	if e.URL != url {
		e.URLRevision++
	}
	e.Revision++
	s.endpoints[ref] = e
}

func (s *stubStore) delete(ref core.EndpointRef) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.endpoints, ref)
}

func (s *stubStore) endpoint(ref core.EndpointRef) core.Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endpoints[ref]
}

func (s *stubStore) readCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// rows returns the rows of every record, in order.
func (s *stubStore) rows() []core.Attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows []core.Attempt
	for _, r := range s.records {
		rows = append(rows, r.Attempts...)
	}
	return rows
}

// marked returns how often each delivery of a bundle was marked, and whether
// the last mark said that all are.
func (s *stubStore) marked() (times map[int]int, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	times = make(map[int]int)
	for _, r := range s.records {
		for _, m := range r.Marks {
			for _, i := range m.Indexes {
				times[i]++
			}
			all = m.All
		}
	}
	return times, all
}

func (s *stubStore) letters() map[string]core.DeadLetter {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]core.DeadLetter, len(s.dead))
	for id, l := range s.dead {
		out[id] = l
	}
	return out
}

// stubQueue keeps what it is given.
type stubQueue struct {
	retryFunc func([]core.Delivery) []error
	deferFunc func([]core.Delivery, time.Time) error

	trace *trace

	mu       sync.Mutex
	retried  map[string]core.Delivery // by "<delivery>:<attempts>"
	deferred []deferral
}

type deferral struct {
	deliveries []core.Delivery
	due        time.Time
}

func (q *stubQueue) Retry(_ context.Context, ds []core.Delivery) []error {
	q.trace.add("retry")
	var errs []error
	if q.retryFunc != nil {
		errs = q.retryFunc(ds)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, d := range ds {
		if errs == nil || errs[i] == nil {
			q.retried[fmt.Sprintf("%s:%d", d.ID, d.Attempts)] = d
		}
	}
	return errs
}

func (q *stubQueue) Defer(_ context.Context, ds []core.Delivery, due time.Time) error {
	q.trace.add("defer")
	if q.deferFunc != nil {
		if err := q.deferFunc(ds, due); err != nil {
			return err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.deferred = append(q.deferred, deferral{slices.Clone(ds), due})
	return nil
}

func (q *stubQueue) retries() map[string]core.Delivery {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make(map[string]core.Delivery, len(q.retried))
	for id, d := range q.retried {
		out[id] = d
	}
	return out
}

// forget takes a retry out of the queue.
func (q *stubQueue) forget(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.retried, name)
}

func (q *stubQueue) deferrals() []deferral {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.deferred)
}

// request is what stubPoster was about to write.
type request struct {
	target *egress.Target
	header textproto.MIMEHeader
	body   string
	at     time.Time
}

// host returns the name of the host that the request was for.
func (r *request) host() string {
	name, _ := r.target.HostPort()
	return name
}

// stubPoster composes and answers 200 unless told otherwise.
type stubPoster struct {
	connect func(*egress.Target)        // before the request is composed
	answer  func(request) egress.Result // nil: 200

	mu       sync.Mutex
	requests []request
	dropped  []*egress.Target
	inFlight int
	highest  int
}

func (p *stubPoster) Post(_ context.Context, began time.Time, _ time.Duration, t *egress.Target, compose egress.Compose) (res egress.Result) {
	defer func() { res.Total = time.Since(began) }()
	p.enter(1)
	defer p.enter(-1)
	if p.connect != nil {
		p.connect(t)
	}
	var m egress.Message
	if err := compose(&m); err != nil {
		return egress.Result{Err: err}
	}
	req, err := parseRequest(t, &m)
	if err != nil {
		panic(err)
	}
	p.mu.Lock()
	p.requests = append(p.requests, req)
	p.mu.Unlock()
	if p.answer == nil {
		return egress.Result{Status: 200, Started: true}
	}
	res = p.answer(req)
	res.Started = true
	return res
}

func (p *stubPoster) enter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight += n
	p.highest = max(p.highest, p.inFlight)
}

func (p *stubPoster) DropIdle(t *egress.Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropped = append(p.dropped, t)
}

func (p *stubPoster) all() []request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

func parseRequest(t *egress.Target, m *egress.Message) (request, error) {
	r := textproto.NewReader(bufio.NewReader(strings.NewReader(string(m.Header) + "\r\n")))
	header, err := r.ReadMIMEHeader()
	return request{target: t, header: header, body: string(m.Body), at: time.Now()}, err
}

// trace notes the order of calls.
type trace struct {
	mu    sync.Mutex
	calls []string
}

func (t *trace) add(call string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls = append(t.calls, call)
}

func (t *trace) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.calls, " ")
}
