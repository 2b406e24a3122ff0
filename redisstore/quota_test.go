package redisstore

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

// slow gains nothing worth mentioning while a test runs.
func slow(burst int) core.Quota { return core.Quota{Rate: 0.001, Burst: burst} }

// draw takes from quotas and returns the cost of each draw, negative if it was
// refused, and what is left of the last one's quota.
func draw(t *testing.T, s *Store, q core.Quota, draws ...core.Draw) (costs []int, left float64) {
	t.Helper()
	var claims []core.Reservation
	for _, d := range draws {
		claims = append(claims, d.Claims...)
	}
	_, _, err := s.Begin(t.Context(), []string{"acme"}, claims, core.Draws{Quota: q, Requests: draws})
	noError(t, err)
	for _, d := range draws {
		cost := d.Cost
		if !d.Granted {
			cost = -cost
		}
		costs, left = append(costs, cost), d.Left
	}
	return costs, left
}

func events(organization string, n int) core.Draw {
	return core.Draw{Organization: organization, Events: n}
}

// around reports whether left is n, apart from what a slow quota gains.
func around(left float64, n int) bool { return left >= float64(n) && left < float64(n)+1 }

func TestDraw(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		steps := []struct {
			name  string
			draws []core.Draw
			costs []int
			left  int
		}{
			{"in order, all or nothing, each organization its own",
				[]core.Draw{events("acme", 4), events("other", 10), events("acme", 7), events("acme", 6), events("acme", 1)}, []int{4, 10, -7, 6, -1}, 0},
			{"nothing is always there", []core.Draw{events("acme", 0)}, []int{0}, 0},
			{"empty", []core.Draw{events("other", 1)}, []int{-1}, 0},
			{"full at first", []core.Draw{events("third", 11), events("third", 3)}, []int{-11, 3}, 7},
		}
		for _, step := range steps {
			costs, left := draw(t, s, slow(10), step.draws...)
			if diff := cmp.Diff(step.costs, costs); diff != "" || !around(left, step.left) {
				t.Errorf("%s: %v left, want %d; costs (-want +got):\n%s", step.name, left, step.left, diff)
			}
		}
		if costs, left := draw(t, s, slow(5), events("third", 1)); costs[0] != 1 || !around(left, 4) {
			t.Errorf("a smaller burst: cost %d, %v left; want the bucket cut to the burst", costs[0], left)
		}
	})
}

// What a claim finds decides whether it counts.
func TestRepetitionsDrawNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		claim := func(per int, rs ...core.Reservation) core.Draw {
			return core.Draw{Organization: "acme", Claims: rs, PerClaim: per}
		}
		a, b := reservation("k", "a", "body"), reservation("k", "b", "body")
		check := func(step string, want []int, draws ...core.Draw) {
			t.Helper()
			costs, _ := draw(t, s, slow(100), draws...)
			if diff := cmp.Diff(want, costs); diff != "" {
				t.Errorf("%s: costs (-want +got):\n%s", step, diff)
			}
		}
		check("new, and a second one behind it", []int{40, 0}, claim(40, a), claim(40, b))
		check("while the first is at work", []int{0}, claim(40, b))
		check("with another body", []int{0}, claim(40, reservation("k", "c", "another body")))
		noError(t, s.Finish(t.Context(), []core.Reservation{a}))
		check("answered before", []int{0}, claim(40, b))

		one, two := reservation("1", "a", "x"), reservation("2", "a", "y")
		check("keys of their own and events without", []int{7}, core.Draw{Organization: "acme", Events: 5, Claims: []core.Reservation{one, two}, PerClaim: 1})
		again, new := reservation("1", "b", "x"), reservation("3", "b", "z")
		check("one of two was there before", []int{1}, claim(1, again, new))

		endLease(t, s.client, "2")
		check("taken over", []int{1}, claim(1, reservation("2", "b", "y")))
	})
}

// setBucket makes acme's bucket hold events as of some time ago by Redis's clock.
func setBucket(t *testing.T, s *Store, held float64, ago time.Duration) {
	t.Helper()
	now, err := s.client.Time(t.Context()).Result()
	noError(t, err)
	noError(t, s.client.Set(t.Context(), quotaKey("acme"), fmt.Sprintf("%f %d", held, now.Add(-ago).UnixMicro()), 0).Err())
}

func TestQuotaFillsUp(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		q := core.Quota{Rate: 0.01, Burst: 50}
		for _, step := range []struct {
			name string
			held float64
			ago  time.Duration
			left int // after one
		}{
			{"1000 seconds", 5.5, 1000 * time.Second, 14},
			{"no more than the burst", 5, 24 * time.Hour, 49},
			{"a clock that went back", 5, -time.Hour, 4},
		} {
			setBucket(t, s, step.held, step.ago)
			for range 2 { // what was written is as good as what was found
				_, left := draw(t, s, q, events("acme", 1))
				if !around(left, step.left) {
					t.Errorf("%s: %v left, want %d", step.name, left, step.left)
				}
				step.left--
			}
		}
	})
}

func TestQuotaExpires(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	draw(t, s, core.Quota{Rate: 2, Burst: 100}, events("acme", 60))
	if ttl := client.PTTL(t.Context(), quotaKey("acme")).Val(); ttl <= 25*time.Second || ttl > 31*time.Second {
		t.Errorf("the bucket ends in %v; want when it is full again, in 30 s", ttl)
	}
	draw(t, s, core.Quota{Rate: 2, Burst: 100}, events("other", 101), events("third", 0))
	if n := client.Exists(t.Context(), quotaKey("other"), quotaKey("third")).Val(); n != 0 {
		t.Errorf("%d buckets of organizations that took nothing", n)
	}
}

// Redis forgets scripts when it restarts, one of them or all.
func TestDrawAfterScriptFlush(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	a := reservation("k", "a", "body")
	noError(t, client.ScriptFlush(t.Context()).Err())
	draw(t, s, slow(100), events("acme", 1)) // now one of the two is known
	costs, left := draw(t, s, slow(100), core.Draw{Organization: "acme", Claims: []core.Reservation{a}, PerClaim: 9})
	if costs[0] != 9 || !around(left, 90) {
		t.Errorf("cost %d, %v left; want 9 and 90", costs[0], left)
	}
}

// Many gateways at once get the burst and not one event more.
func TestQuotaIsExact(t *testing.T) {
	t.Parallel()
	database := shared.Database(t)
	const gateways, requests, burst = 4, 100, 150
	var granted atomic.Int64
	var wg sync.WaitGroup
	for range gateways {
		s := newStore(t, database.URL())
		wg.Go(func() {
			for range requests {
				draws := core.Draws{Quota: slow(burst), Requests: []core.Draw{events("acme", 1)}}
				if _, _, err := s.Begin(t.Context(), []string{"acme"}, nil, draws); err != nil {
					t.Error(err)
				} else if draws.Requests[0].Granted {
					granted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := granted.Load(); n != burst {
		t.Errorf("%d of %d requests were granted, want %d", n, gateways*requests, burst)
	}
}

func TestDrawRefusesANonsensicalReply(t *testing.T) {
	t.Parallel()
	s, client := setup(t)
	noError(t, client.Set(t.Context(), quotaKey("acme"), "nonsense", 0).Err())
	_, _, err := s.Begin(t.Context(), []string{"acme"}, nil, core.Draws{Quota: slow(1), Requests: []core.Draw{events("acme", 1)}})
	wantCode(t, err, core.CodeUnavailable)
	if !strings.Contains(err.Error(), "begin") {
		t.Errorf("error %v does not say what failed", err)
	}
}
