package app

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// trialCores are cores that note what they would do.
type trialCores struct {
	*cores
	cpu     time.Duration
	err     error
	changes []bool
}

func newTrialCores() *trialCores {
	c := new(trialCores)
	c.cores = &cores{
		use:     func(few bool) { c.changes = append(c.changes, few) },
		spent:   func() (time.Duration, error) { return c.cpu, c.err },
		started: time.Now(),
	}
	return c
}

// attempts makes attempts for a time, each of which takes as much of it in CPU.
func (c *trialCores) attempts(lasting, every, cpu time.Duration) {
	for range lasting / every {
		c.Attempt(time.Now())
		c.cpu += cpu
		time.Sleep(every)
	}
}

func TestCores(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newTrialCores()
		expect := func(when string, few bool, changes int) {
			t.Helper()
			if c.few.Load() != few || len(c.changes) != changes || changes > 0 && c.changes[changes-1] != few {
				t.Fatalf("%s: few cores: %t after the changes %v, want %t after %d", when, c.few.Load(), c.changes, few, changes)
			}
		}
		const every, little, much = 5 * time.Millisecond, time.Millisecond, 2 * time.Millisecond
		const calmTime = calmLooks * coresLook
		c.attempts(calmTime, every, little)
		expect("little to do", false, 0)
		c.attempts(2*coresLook, every, little)
		expect("for a while now", true, 1)

		c.cpu += coresLook / calmPart / 8 // a collection of garbage
		c.attempts(2*coresLook, every, little)
		expect("much for a moment", true, 1)
		c.attempts(2*coresLook, every, much)
		expect("much", false, 2)
		c.attempts(time.Minute, every, much)
		expect("much for long", false, 2)
		c.attempts(2*calmTime, every, little)
		expect("little again", true, 3)

		for range calmBatch - 1 {
			c.Attempt(time.Now())
		}
		expect("a batch", true, 3)
		c.Attempt(time.Now())
		c.Attempt(time.Now())
		expect("a larger one", false, 4)
		c.attempts(2*calmTime, time.Second/calmRate/2, time.Microsecond)
		expect("many that cost nothing", false, 4)

		// Batches now and then are none that are faster on one core.
		for range 2 * calmLooks {
			time.Sleep(10 * coresLook)
			for range 2 * calmBatch {
				c.Attempt(time.Now())
			}
		}
		expect("batches", false, 4)
		time.Sleep(time.Hour)
		c.attempts(every, every, little)
		expect("nothing at all, so nothing is gained", false, 4)
		for range 2 * calmLooks {
			time.Sleep(3 * time.Second)
			c.attempts(every, every, 600*time.Millisecond)
		}
		expect("a dear one now and then", false, 4)

		c.attempts(2*calmTime, every, little)
		expect("calm once more", true, 5)
		time.Sleep(coresLook)
		c.cpu += coresLook
		c.Work(time.Now())
		expect("work without attempts", false, 6)
		c.attempts(2*calmTime, every, little)
		expect("calm yet again", true, 7)
		c.err = errors.New("no such thing as CPU time")
		c.attempts(2*coresLook, every, little)
		expect("unknown", false, 8)
		c.attempts(2*calmTime, every, little)
		expect("unknown for long", false, 8)
		c.err = nil
		c.attempts(2*calmTime, every, little)
		expect("known again", true, 9)

		if err := c.end(); err != nil {
			t.Fatal(err)
		}
		expect("the end", false, 10)
		c.attempts(2*calmTime, every, little)
		expect("after the end", false, 10)
	})
}

// Attempts of many goroutines are noticed, however they meet, and though they cost
// nothing.
func TestCoresTogether(t *testing.T) {
	t.Parallel()
	c := &cores{spent: func() (time.Duration, error) { return 0, nil }, started: time.Now(), use: func(bool) {}}
	c.few.Store(true)
	c.calm.Store(calmLooks)
	var wg sync.WaitGroup
	deadline := time.Now().Add(time.Minute)
	for range 8 {
		wg.Go(func() {
			for c.few.Load() && time.Now().Before(deadline) {
				c.Attempt(time.Now())
			}
		})
	}
	wg.Wait()
	if c.few.Load() {
		t.Error("attempts as fast as they can, and still one core")
	}
}

// TestCoresOfTheProcess changes the number of cores of the tests themselves, and is
// not parallel for that reason.
func TestCoresOfTheProcess(t *testing.T) {
	before, setting := runtime.GOMAXPROCS(0), os.Getenv("GOMAXPROCS")
	t.Cleanup(func() {
		runtime.SetDefaultGOMAXPROCS()
		if setting != "" {
			runtime.GOMAXPROCS(before)
		}
	})
	runtime.SetDefaultGOMAXPROCS()
	byDefault := runtime.GOMAXPROCS(0)
	other := byDefault + 2
	for setting, want := range map[string]int{fmt.Sprint(other): other, "": byDefault, "0": byDefault, "many": byDefault} {
		t.Setenv("GOMAXPROCS", setting)
		runtime.GOMAXPROCS(other)
		c := newCores(slog.New(slog.DiscardHandler))
		c.change(true)
		if n := runtime.GOMAXPROCS(0); n != 1 {
			t.Errorf("%d cores, want 1", n)
		}
		if err := c.end(); err != nil {
			t.Error(err)
		}
		if n := runtime.GOMAXPROCS(0); n != want {
			t.Errorf("GOMAXPROCS=%s: %d cores at the end, want %d", setting, n, want)
		}
	}
}
