package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealpost/sealpost/bench/internal/lab"
	"github.com/sealpost/sealpost/bench/internal/proxy"
)

const (
	loadShare      = 0.6 // of the capacity
	roundsAtLeast  = 18  // faults take that part of the soak in each round; quiet takes as long or less
	shortestRound  = 8 * time.Second
	longestRound   = 2 * time.Minute
	settledPause   = 22 * time.Second // connections of senders lie idle for 6 s at most, goroutines of the API for 20 s
	startTries     = 10
	progressEvery  = 10 * time.Second
	elderGateway   = "gateway-elder"
	elderSender    = "sender-elder"
	endpointAnswer = 10 * time.Millisecond
)

// soaking is a soak under way. The elders are the gateway and the sender that no
// fault kills, beside those that are killed all the time: only what lives through
// all rounds shows whether it grows.
type soaking struct {
	w      *world
	report *soakReport
	begin  time.Time
	elders map[string]*lab.Process

	round atomic.Int64
	doing atomic.Pointer[string]
}

// soak does rounds until its time is over: faults under load, then quiet, then a
// sample of everything that could grow.
func soak(ctx context.Context, w *world) error {
	s := &soaking{w: w, report: newSoakReport(), begin: time.Now()}
	w.res.Soak = s.report
	w.noted = notedBacklogs
	w.receiver.turn(take(endpointAnswer))
	if err := s.startElders(ctx); err != nil {
		return err
	}
	s.do("measuring the capacity")
	watching, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { s.tell(watching) })
	err := s.rounds(ctx)
	stop()
	wg.Wait()
	s.notePeaks()
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		w.broken("the soak ended before its time: %v", err) // what was measured until then is worth a report
		return nil
	}
	return err
}

func (s *soaking) startElders(ctx context.Context) error {
	s.elders = make(map[string]*lab.Process)
	for _, name := range []string{elderGateway, elderSender} {
		p, api, err := s.w.stack.StartBeside(ctx, name)
		if err != nil {
			return err
		}
		s.elders[name] = p
		if name == elderGateway {
			s.w.streams[1].api = api
		}
	}
	return nil
}

func (s *soaking) rounds(ctx context.Context) error {
	w := s.w
	if err := s.setRate(ctx); err != nil {
		return err
	}
	if err := w.noteGoroutines(ctx); err != nil {
		return err
	}
	length := w.long(w.o.duration, 5*time.Second)
	faulty := w.long(min(max(length/roundsAtLeast, shortestRound), longestRound), 3*time.Second)
	s.report.FaultsFor = faulty.Seconds()
	for end := time.Now().Add(length); time.Now().Before(end); {
		s.round.Add(1)
		s.do("faults")
		stop := w.publish(ctx)
		err := s.faults(ctx, time.Now().Add(faulty))
		stop()
		if err != nil {
			return err
		}
		if err := s.rest(ctx); err != nil {
			return err
		}
		if err := s.sample(ctx); err != nil {
			return err
		}
		// Kept round by round: a soak that is broken off has told something, too.
		if err := s.report.save(w.o.out); err != nil {
			return err
		}
	}
	return nil
}

// rest waits until nothing is left to be done, and then a while more, and closes
// the books of the round.
func (s *soaking) rest(ctx context.Context) error {
	s.do("waiting for quiet")
	if err := s.w.quiet(ctx); err != nil {
		return err
	}
	for _, st := range s.w.streams {
		dead, err := s.w.deadLetters(ctx, st)
		if err != nil {
			return err
		}
		st.books.fold(dead)
	}
	s.do("settling")
	return sleep(ctx, s.w.long(settledPause, time.Second))
}

// faults draws one fault after the other.
func (s *soaking) faults(ctx context.Context, end time.Time) error {
	for time.Now().Before(end) {
		s.notePeaks() // a process that ends takes its peak along
		if err := s.fault(ctx); err != nil {
			if err = s.revive(ctx, err); err != nil {
				return err
			}
		}
		if err := sleep(ctx, time.Duration(500+s.w.random.IntN(2000))*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// revive starts what did not start after a fault, as a supervisor would: a port may be
// taken for a moment, as an outgoing connection was given it while nobody listened.
func (s *soaking) revive(ctx context.Context, err error) error {
	stack := s.w.stack
	for range startTries {
		fmt.Fprintln(os.Stderr, "soak: starting once more:", err)
		s.report.StartedAgain++
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
		err = nil
		if stack.Redis.Ended() {
			err = stack.Redis.Start()
		}
		if err == nil && stack.Gateway.Ended() {
			err = stack.StartGateway(ctx)
		}
		for i, p := range stack.Senders {
			if err == nil && p.Ended() {
				err = stack.StartSender(ctx, i)
			}
		}
		if err == nil {
			return nil
		}
	}
	return err
}

func (s *soaking) fault(ctx context.Context) error {
	w := s.w
	before := w.res.Injected
	name := ""
	defer func() { s.report.Faults[name] += w.res.Injected - before }()
	switch w.random.IntN(8) {
	case 0:
		name = "sender killed"
		return w.killSender(ctx)
	case 1:
		name = "sender restarted"
		return w.termSenders(ctx, 1, 0)
	case 2:
		name = "gateway killed"
		return w.killGateway(ctx)
	case 3:
		name = "Redis killed"
		return w.killRedis(ctx)
	case 4:
		name = "Redis frozen for 1 to 4 s"
		return w.stopRedis(ctx, time.Duration(1+w.random.IntN(4))*time.Second)
	case 5:
		name = "Redis forgets its scripts, all its connections reset"
		if err := w.stack.Client.ScriptFlush(ctx).Err(); err != nil {
			return err
		}
		w.each("", func(p *proxy.Proxy) { p.Reset() })
		w.res.Injected++
		return nil
	case 6:
		name = "connection to an endpoint reset"
		w.mayRepeat() // an answer that a receiver gave may be on its way
		for _, st := range w.streams {
			for _, l := range st.links {
				w.res.Injected += l.Reset()
			}
		}
		return nil
	default:
		name = "one endpoint of each organization answers 503 for 1 to 4 s"
		w.receiver.turn(func(_, endpoint int) answer {
			if endpoint == 0 {
				return answer{status: 503}
			}
			return answer{wait: endpointAnswer, status: 200}
		})
		w.res.Injected++
		err := sleep(ctx, time.Duration(1+w.random.IntN(4))*time.Second)
		w.receiver.turn(take(endpointAnswer))
		return err
	}
}

func (s *soaking) do(what string) { s.doing.Store(&what) }

// tell prints how it goes until ctx ends.
func (s *soaking) tell(ctx context.Context) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		accepted, delivered, waiting, refused := 0, 0, 0, 0
		for _, st := range s.w.streams {
			b := st.books
			accepted += b.count(&b.accepted)
			delivered += b.count(&b.delivered)
			waiting += b.count(&b.outstanding)
			refused += b.count(&b.refused)
		}
		fmt.Fprintf(os.Stderr, "soak %v, round %d, %s: %d accepted, %d refused, %d delivered, %d waiting; %s %d MiB, %s %d MiB\n",
			time.Since(s.begin).Round(time.Second), s.round.Load(), *s.doing.Load(), accepted, refused, delivered, waiting,
			elderGateway, s.elders[elderGateway].Memory()>>20, elderSender, s.elders[elderSender].Memory()>>20)
	}
}

// soakEnds judges what was measured, once the last round's work is done.
func soakEnds(ctx context.Context, w *world) error {
	for _, st := range w.streams {
		if n := st.books.count(&st.books.folded.late); n > 0 {
			w.broken("%d deliveries came again after nothing had been left to be done", n)
		}
	}
	for _, p := range w.stack.Beside {
		if p.Ended() {
			w.broken("%s is gone", p.Name)
		}
	}
	for _, problem := range w.res.Soak.judge() {
		w.broken("%s", problem)
	}
	if err := w.res.Soak.save(w.o.out); err != nil {
		return err
	}
	if err := sameGoroutines(ctx, w); err != nil {
		w.broken("goroutines are not told: %v", err)
	}
	return ctx.Err()
}
