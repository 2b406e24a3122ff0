package pace_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/pace"
)

var epoch = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// played is a result of a script: each letter is one, of a delivery of its own
// except for f.
//
//	S success   L success after a second
//	F failure   T failure after two seconds   f failure of the delivery before
//	B busy
func played(letter rune, n int, ended time.Time) pace.Result {
	took := time.Millisecond
	switch letter {
	case 'L':
		took = pace.SlowAfter
	case 'T':
		took = 2 * time.Second
	case 'f':
		n--
	}
	return pace.Result{
		Began: ended.Add(-took), Ended: ended, Delivery: strconv.Itoa(n),
		Failed: letter == 'F' || letter == 'f' || letter == 'T' || letter == 'B', Busy: letter == 'B',
	}
}

// findings are the letters of what is found after each result.
var findings = map[core.State]byte{"": '.', core.StateFailing: 'O', core.StateThrottled: 't', core.StateSlow: 's'}

func TestCircuit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, results, found string
		apart                time.Duration
	}{
		{name: "ten failures open it", results: "FFFFFFFFFF", found: ".........O"},
		{name: "then all starts anew", results: "FFFFFFFFFFFFFFFFFFFF", found: ".........O.........O"},
		{name: "a success ends the run", results: "FFFFFFFFFSFFFFFFFFF", found: "..................."},
		{name: "a run may be spread over hours", results: "FFFFFFFFFF", found: ".........O", apart: time.Hour},
		{name: "timeouts are failures", results: "TTTTTTTTTT", found: "....s....O", apart: 3 * time.Second},
		{name: "one delivery never opens it", results: "Fff", found: "..."},
		{name: "repetitions do not lengthen the run", results: "FFFFFFFFFf", found: ".........."},
		{name: "half of twenty", results: "SFSFSFSFSFSFSFSFSFSF", found: "...................O"},
		{name: "less than half", results: "SFSFSFSFSFSFSFSFSFSSF", found: "....................."},
		{name: "less than twenty in time", results: "SFSFSFSFSFSFSFSFSFSFSFSFSFSFSF", found: "..............................", apart: 2 * time.Second},
		{name: "every busy answer", results: "BSB", found: "t.t"},
		{name: "busy answers are failures", results: "BBBBBBBBBB", found: "tttttttttO"},
		{name: "five slow answers", results: "LLLLLLLLLL", found: "....s....s", apart: 2 * time.Second},
		{name: "a fast one between", results: "LLLLSLLLL", found: ".........", apart: 2 * time.Second},
		{name: "a fast failure is no fast answer", results: "LLLFLL", found: ".....s", apart: 2 * time.Second},
		{name: "slow answers far apart", results: "LLLLLLLLLLLL", found: "............", apart: 8 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var circuit pace.Circuit
			apart := c.apart
			if apart == 0 {
				apart = 10 * time.Millisecond
			}
			found := ""
			for i, letter := range c.results {
				found += string(findings[circuit.Note(played(letter, i, epoch.Add(time.Duration(i)*apart)))])
			}
			if found != c.found {
				t.Errorf("%s was found to be\n%s, want\n%s", c.results, found, c.found)
			}
		})
	}
}

func TestOneDeliveryNeverOpens(t *testing.T) {
	t.Parallel()
	var c pace.Circuit
	for i := range 1000 {
		if got := c.Note(played('F', 7, epoch.Add(time.Duration(i)*time.Millisecond))); got != "" {
			t.Fatalf("after %d failures of one delivery: %q", i+1, got)
		}
	}
}

// at is an attempt from the millisecond began to ended.
func at(began, ended int, failed bool) pace.Result {
	return pace.Result{
		Began: epoch.Add(time.Duration(began) * time.Millisecond), Ended: epoch.Add(time.Duration(ended) * time.Millisecond),
		Failed: failed, Delivery: fmt.Sprintf("%d-%d", began, ended),
	}
}

func TestResultsOutOfOrder(t *testing.T) {
	t.Parallel()
	t.Run("what hung while the endpoint was away", func(t *testing.T) {
		t.Parallel()
		var c pace.Circuit
		for i := range 30 {
			c.Note(at(500+i, 501+i, false)) // it is back
		}
		for i := range 20 {
			if got := c.Note(at(i, 900+i, true)); got != "" {
				t.Fatalf("after %d: %q", i+1, got)
			}
		}
	})
	t.Run("a success noted late", func(t *testing.T) {
		t.Parallel()
		var c pace.Circuit
		for i := range 9 {
			c.Note(at(100+i, 101+i, true))
		}
		if got := c.Note(at(50, 60, false)); got != "" {
			t.Fatalf("the success: %q", got)
		}
		if got := c.Note(at(200, 201, true)); got != core.StateFailing {
			t.Errorf("the tenth failure in a row: %q", got)
		}
	})
	t.Run("a success that began early and came through", func(t *testing.T) {
		t.Parallel()
		var c pace.Circuit
		for i := range 9 {
			c.Note(at(100+i, 101+i, true))
		}
		c.Note(at(50, 150, false))
		if got := c.Note(at(200, 201, true)); got != "" {
			t.Errorf("the first failure of a run: %q", got)
		}
	})
	t.Run("what was in flight when it opened", func(t *testing.T) {
		t.Parallel()
		var c pace.Circuit
		for i := range 10 {
			c.Note(at(100+i, 101+i, true))
		}
		for i := range 50 {
			if got := c.Note(at(60+i, 300+i, true)); got != "" {
				t.Fatalf("straggler %d: %q", i, got)
			}
		}
	})
}

func TestOverdue(t *testing.T) {
	t.Parallel()
	after := func(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }
	t.Run("five in flight", func(t *testing.T) {
		t.Parallel()
		var c pace.Circuit
		for i := range 5 {
			want := core.State("")
			if i == 4 {
				want = core.StateSlow
			}
			if got := c.Overdue(strconv.Itoa(i), after(1000)); got != want {
				t.Errorf("overdue %d: %q, want %q", i, got, want)
			}
		}
	})
	t.Run("each counts once", func(t *testing.T) {
		t.Parallel()
		var c pace.Circuit
		for i := range 4 {
			r := at(0, 1500+i, false)
			for range 3 {
				if got := c.Overdue(r.Delivery, after(1000)); got != "" {
					t.Errorf("overdue %d: %q", i, got)
				}
			}
			if got := c.Note(r); got != "" {
				t.Errorf("its result: %q", got)
			}
		}
		if got := c.Note(at(0, 1600, false)); got != core.StateSlow {
			t.Errorf("the fifth slow answer: %q", got)
		}
	})
	t.Run("its next attempt counts again", func(t *testing.T) {
		t.Parallel()
		var c pace.Circuit
		got := core.State("")
		for i := range 5 {
			got = c.Overdue("one", after(1000+2000*i))
			c.Note(pace.Result{Began: after(2000 * i), Ended: after(1500 + 2000*i), Delivery: "one"})
		}
		if got != core.StateSlow {
			t.Errorf("after five slow attempts of one delivery: %q", got)
		}
	})
	t.Run("more than can be kept", func(t *testing.T) {
		t.Parallel()
		var c pace.Circuit
		slow := 0
		for i := range 5000 {
			if c.Overdue(strconv.Itoa(i), after(1000+i)) == core.StateSlow {
				slow++
			}
		}
		if slow == 0 || slow > 5000/pace.SlowToLeave {
			t.Errorf("found slow %d times", slow)
		}
	})
}

func TestForgettable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		letters string
		after   time.Duration
		want    bool
	}{
		{"nothing known", "", 0, true},
		{"healthy", "S", 0, true},
		{"healthy, failed of late", "FS", time.Second, false},
		{"healthy again for long", "FS", pace.Window + 5*time.Second, true},
		{"slow answers of late", "L", time.Second, false},
		{"failures may still make a run", "F", pace.Window, false},
		{"failures long ago", "F", 10 * time.Minute, true},
		{"slow answers leave the window", "L", pace.Window, true},
	} {
		var circuit pace.Circuit
		for i, letter := range c.letters {
			circuit.Note(played(letter, i, epoch))
		}
		if got := circuit.Forgettable(epoch.Add(c.after)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// However an endpoint came to fail: once it only fails, it opens within
// FailuresToOpen failures of distinct deliveries that began after that.
func TestADeadEndpointOpens(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 1))
		var c pace.Circuit
		now, n := epoch, 0
		step := func(letter rune) core.State {
			n++
			now = now.Add(time.Duration(random.Int64N(int64(3 * time.Second))))
			return c.Note(played(letter, n, now))
		}
		for range random.IntN(100) {
			step([]rune("SSSSLFFfTB")[random.IntN(10)])
		}
		now = now.Add(5 * time.Second) // what follows begins after all of it ended
		failures := 0
		for opened := false; !opened; failures++ {
			opened = step([]rune("FTB")[random.IntN(3)]) == core.StateFailing
		}
		if failures > pace.FailuresToOpen {
			t.Fatalf("seed %d: opened after %d failures", seed, failures)
		}
	}
}

// An endpoint that never fails in runs, and always for less than half of what
// it gets, is left alone however much is in flight and in whatever order it ends.
func TestAnEndpointWithFewFailuresStaysClosed(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 2))
		var c pace.Circuit
		now := epoch
		for group := range 200 {
			now = now.Add(time.Duration(random.Int64N(int64(time.Second))))
			fails := random.IntN(5) // of each five results one fails at most
			for i := range 5 {
				letter := 'S'
				if i == fails {
					letter = []rune("SF")[random.IntN(2)]
				}
				r := played(letter, group*5+i, now.Add(time.Duration(i)*time.Millisecond))
				r.Began = r.Ended.Add(-time.Duration(random.Int64N(int64(pace.SlowAfter))))
				if got := c.Note(r); got != "" {
					t.Fatalf("seed %d, result %d: %q", seed, group*5+i, got)
				}
			}
		}
	}
}

func TestProbeInterval(t *testing.T) {
	t.Parallel()
	for n, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		if got := pace.ProbeInterval(n); got != want*time.Second {
			t.Errorf("after %d failed probes: %v, want %v s", n, got, int(want))
		}
	}
	for n, want := range map[int]time.Duration{-1: time.Second, 1 << 40: 30 * time.Second} {
		if got := pace.ProbeInterval(n); got != want {
			t.Errorf("after %d failed probes: %v, want %v", n, got, want)
		}
	}
}
