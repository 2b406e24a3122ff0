package pace_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core/pace"
)

// In no interval of any schedule do more attempts begin than its rate and the
// burst allow, and what asks as early as it may gets the whole rate.
func TestRate(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 5))
		rate := math.Exp(random.Float64()*math.Log(1e6)) / 100 // 0.01 to 10,000
		gap := time.Duration(float64(time.Second) / rate)
		eager := seed%2 == 0
		p := pace.New(epoch, 1000, rate)
		now := epoch
		var starts []time.Time
		for len(starts) < 500 {
			ok, wait := p.MayStart(now, 0)
			switch {
			case ok:
				p.Started(now)
				starts = append(starts, now)
			case wait <= 0:
				t.Fatalf("seed %d: refused without a wait", seed)
			case eager:
				now = now.Add(wait)
			}
			if !eager {
				now = now.Add(time.Duration(random.ExpFloat64() * float64(gap) / 3))
				if random.IntN(50) == 0 {
					now = now.Add(time.Duration(random.Int64N(20)) * gap) // an allowance to gather
				}
			}
		}
		burst := max(1, rate*0.05)
		for i := range starts {
			for j := i; j < len(starts); j++ {
				t1 := starts[j].Sub(starts[i]).Seconds()
				if n := float64(j - i + 1); n > rate*t1+burst+1e-6 {
					t.Fatalf("seed %d: %v starts in %v s at %v/s", seed, n, t1, rate)
				}
			}
		}
		if took := now.Sub(epoch).Seconds(); eager && took*rate > 500*1.001 {
			t.Errorf("seed %d: 500 starts at %v/s took %v s", seed, rate, took)
		}
	}
}

func TestRest(t *testing.T) {
	t.Parallel()
	p := pace.New(epoch, 10, 0)
	p.Started(epoch)
	if got := p.Rest(epoch); got != 0 {
		t.Errorf("without a rate: %v", got)
	}
	p.SetLimits(10, 100) // one every 10 ms, five at once
	for range 5 {
		if ok, wait := p.MayStart(epoch, 0); !ok {
			t.Fatalf("within the burst: wait %v", wait)
		}
		p.Started(epoch)
	}
	if ok, wait := p.MayStart(epoch, 0); ok || wait != 10*time.Millisecond {
		t.Errorf("after the burst: %v, wait %v", ok, wait)
	}
	if got := p.Rest(epoch.Add(20 * time.Millisecond)); got != 30*time.Millisecond {
		t.Errorf("rest %v", got)
	}
	if got := p.Rest(epoch.Add(time.Second)); got != 0 {
		t.Errorf("rest %v after a second", got)
	}
}

// A changed rate holds from then on: a wait under the old one is not carried
// over.
func TestRateChanges(t *testing.T) {
	t.Parallel()
	p := pace.New(epoch, 10, 0.01)
	p.Started(epoch)
	if _, wait := p.MayStart(epoch, 0); wait != 100*time.Second {
		t.Errorf("at 0.01/s: wait %v", wait)
	}
	p.SetLimits(10, 10)
	if _, wait := p.MayStart(epoch, 0); wait != 100*time.Millisecond {
		t.Errorf("at 10/s: wait %v", wait)
	}
	p.SetLimits(10, 0)
	if ok, wait := p.MayStart(epoch, 0); !ok {
		t.Errorf("without a rate: wait %v", wait)
	}
}
