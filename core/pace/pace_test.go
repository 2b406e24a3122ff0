package pace_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core/pace"
)

func good(began, took time.Duration) pace.Result {
	return pace.Result{Began: epoch.Add(began), Ended: epoch.Add(began + took)}
}

func failed(began, took time.Duration) pace.Result {
	r := good(began, took)
	r.Failed = true
	return r
}

func TestWindow(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, c := range []struct {
		name    string
		most    int
		results []pace.Result
		want    []int // after each result
	}{
		{"one for each good result", 5, []pace.Result{good(1*ms, ms), good(2*ms, ms), good(3*ms, ms), good(4*ms, ms)}, []int{3, 4, 5, 5}},
		{"never above the limit", 1, []pace.Result{good(1*ms, ms), good(2*ms, ms)}, []int{1, 1}},
		{"halved by a failure, then one a window", 9, []pace.Result{good(1*ms, ms), good(2*ms, ms), failed(3*ms, ms), good(5*ms, ms), good(6*ms, ms), good(7*ms, ms), good(8*ms, ms), good(9*ms, ms)}, []int{3, 4, 2, 2, 3, 3, 3, 4}},
		{"at most once a generation", 9, []pace.Result{good(1*ms, ms), good(2*ms, ms), failed(3*ms, 9*ms), failed(4*ms, 9*ms), failed(5*ms, 9*ms), failed(13*ms, ms)}, []int{3, 4, 2, 2, 2, 1}},
		{"never below one", 9, []pace.Result{failed(1*ms, ms), failed(3*ms, ms), failed(5*ms, ms)}, []int{1, 1, 1}},
		{"busy without failed", 9, []pace.Result{{Began: epoch.Add(ms), Ended: epoch.Add(2 * ms), Busy: true}}, []int{1}},
		{"kept by a longer answer", 9, []pace.Result{good(1*ms, 10*ms), good(2*ms, 120*ms), good(2*ms, 121*ms), good(2*ms, 290*ms)}, []int{3, 4, 4, 4}},
		{"halved by a far longer answer", 9, []pace.Result{good(1*ms, 10*ms), good(2*ms, 10*ms), good(2*ms, 291*ms)}, []int{3, 4, 2}},
		{"alone, it shows what is usual", 9, []pace.Result{good(1*ms, 10*ms), failed(2*ms, 10*ms), good(20*ms, 2000*ms), good(3000*ms, 2000*ms), good(6000*ms, 2000*ms)}, []int{3, 1, 1, 2, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := pace.New(epoch, c.most, 0)
			for i, r := range c.results {
				p.Note(r)
				if p.Window() != c.want[i] {
					t.Fatalf("after result %d: %d, want %d", i, p.Window(), c.want[i])
				}
			}
		})
	}
}

func TestSetLimits(t *testing.T) {
	t.Parallel()
	p := pace.New(epoch, 100, 0)
	for i := range 50 {
		p.Note(good(time.Duration(i)*time.Second, time.Millisecond))
	}
	p.SetLimits(10, 0)
	if p.Window() != 10 {
		t.Errorf("window %d after the limit fell to 10", p.Window())
	}
	if ok, wait := p.MayStart(epoch, 10); ok || wait != 0 {
		t.Errorf("with a full window: %v, %v", ok, wait)
	}
	p.SetLimits(0, 0)
	if ok, _ := p.MayStart(epoch, 0); !ok || p.Window() != 1 {
		t.Errorf("a limit below 1: %v, window %d", ok, p.Window())
	}
}

// The window stays within its bounds whatever comes.
func TestWindowStaysWithinBounds(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 3))
		most := 1 + random.IntN(100)
		p := pace.New(epoch, most, 0)
		at := time.Duration(0)
		for range 1000 {
			at += time.Duration(random.Int64N(int64(time.Second)))
			r := good(at-time.Duration(random.Int64N(int64(3*time.Second))), time.Duration(random.Int64N(int64(2*time.Second))))
			r.Failed = random.IntN(20) == 0
			r.Busy = random.IntN(20) == 0
			if random.IntN(100) == 0 {
				most = 1 + random.IntN(100)
				p.SetLimits(most, 0)
			}
			p.Note(r)
			if w := p.Window(); w < 1 || w > most {
				t.Fatalf("seed %d: window %d of at most %d", seed, w, most)
			}
		}
	}
}

// endpoint answers what is sent to it: how long it takes with n in flight, and
// whether it is too busy.
type endpoint func(n int) (took time.Duration, busy bool)

// work sends as much as p allows to e for the length of d, on a synctest clock.
// It returns how much was answered well and the window at each answer, from the
// time warm on.
func work(p *pace.Pace, e endpoint, warm, d time.Duration) (well int, windows []int) {
	results := make(chan pace.Result)
	start := time.Now()
	inFlight := 0
	for {
		for {
			now := time.Now()
			ok, _ := p.MayStart(now, inFlight)
			if !ok || now.Sub(start) >= d {
				break
			}
			p.Started(now)
			inFlight++
			took, busy := e(inFlight)
			go func() {
				time.Sleep(took)
				results <- pace.Result{Began: now, Ended: time.Now(), Failed: busy, Busy: busy}
			}()
		}
		if inFlight == 0 {
			return well, windows
		}
		r := <-results
		inFlight--
		p.Note(r)
		if r.Began.Sub(start) >= warm {
			windows = append(windows, p.Window())
			if !r.Failed {
				well++
			}
		}
	}
}

func mean(ns []int) float64 {
	sum := 0
	for _, n := range ns {
		sum += n
	}
	return float64(sum) / float64(max(len(ns), 1))
}

// An endpoint with places for so many, which answers 503 at once beyond them:
// the window swings around them and most of them are used.
func TestPaceFindsACapacity(t *testing.T) {
	t.Parallel()
	for _, capacity := range []int{1, 2, 5, 20, 64, 150} {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(capacity), 4))
			p := pace.New(time.Now(), 1000, 0)
			const usual, warm, long = 100 * time.Millisecond, 10 * time.Second, 50 * time.Second
			well, windows := work(p, func(n int) (time.Duration, bool) {
				if n > capacity {
					return 2 * time.Millisecond, true
				}
				return usual*8/10 + time.Duration(random.Int64N(int64(usual*4/10))), false
			}, warm, long)
			share := float64(well) / (float64(capacity) * float64((long - warm)) / float64(usual))
			t.Logf("capacity %d: %.0f %% of it used, window %.1f on average", capacity, share*100, mean(windows))
			if share < 0.7 {
				t.Errorf("capacity %d: %.0f %% of it used", capacity, share*100)
			}
			if w := mean(windows); w < 0.5*float64(capacity) || w > 1.5*float64(capacity)+1 {
				t.Errorf("capacity %d: window %.1f on average", capacity, w)
			}
		})
	}
}

// An endpoint that lets wait what is too much for it: it is kept busy, and what
// waits there stays bounded, also in the long run.
func TestPaceBoundsAQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const capacity, usual = 20, 200 * time.Millisecond
		p := pace.New(time.Now(), 1000, 0)
		const warm, long = 10 * time.Second, 5 * time.Minute
		well, windows := work(p, func(n int) (time.Duration, bool) {
			return usual * time.Duration(max(n, capacity)) / capacity, false
		}, warm, long)
		share := float64(well) / (capacity * float64((long - warm)) / float64(usual))
		highest := 0
		for _, w := range windows {
			highest = max(highest, w)
		}
		t.Logf("%.0f %% used, window %.1f on average, %d at most", share*100, mean(windows), highest)
		if share < 0.7 || highest > 6*capacity {
			t.Errorf("%.0f %% used, window up to %d", share*100, highest)
		}
	})
}

// Slow is not overloaded: what always takes two seconds gets all that it may.
func TestPaceAcceptsASlowEndpoint(t *testing.T) {
	t.Parallel()
	for _, fastFor := range []time.Duration{0, 10 * time.Second} { // slow from the beginning, or from then on
		synctest.Test(t, func(t *testing.T) {
			p := pace.New(time.Now(), 64, 0)
			start := time.Now()
			work(p, func(int) (time.Duration, bool) {
				if time.Since(start) < fastFor {
					return 10 * time.Millisecond, false
				}
				return 2 * time.Second, false
			}, 0, fastFor+4*time.Minute)
			if p.Window() != 64 {
				t.Errorf("fast for %v: window %d in the end", fastFor, p.Window())
			}
		})
	}
}
