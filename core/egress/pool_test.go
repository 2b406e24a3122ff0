package egress

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// fakePool returns a pool with a clock, and a function that makes connections
// for it.
func fakePool(t *testing.T, o Options) (*pool, *clock, func(key string, g grant) *conn) {
	t.Helper()
	ticks := &clock{}
	o.Now = ticks.now
	if err := o.setDefaults(); err != nil {
		t.Fatal(err)
	}
	p := newPool(&o)
	t.Cleanup(p.close)
	return p, ticks, func(key string, g grant) *conn {
		near, far := net.Pipe()
		t.Cleanup(func() { near.Close(); far.Close() })
		return newConn(near, near, key, g.generation, ticks.now)
	}
}

func closed(c *conn) bool {
	return errors.Is(c.raw.SetDeadline(time.Time{}), net.ErrClosed) || c.raw.SetDeadline(time.Time{}) != nil
}

// fill opens n connections to key at the same time and puts them back in order.
func fill(t *testing.T, p *pool, key string, n int, dial func(string, grant) *conn) []*conn {
	t.Helper()
	conns := make([]*conn, n)
	for i := range conns {
		g := p.get(t.Context(), p.now(), deadlineIn(patience), key)
		if g.err != nil || g.conn != nil {
			t.Fatalf("grant %+v; want permission to dial", g)
		}
		conns[i] = dial(key, g)
	}
	for _, c := range conns {
		p.put(c, p.now())
	}
	return conns
}

func TestPoolLastInFirstOut(t *testing.T) {
	t.Parallel()
	p, _, dial := fakePool(t, Options{})
	conns := fill(t, p, "a", 3, dial)
	for i := 2; i >= 0; i-- {
		if g := p.get(t.Context(), p.now(), deadlineIn(patience), "a"); g.conn != conns[i] {
			t.Errorf("not connection %d", i)
		}
	}
	if g := p.get(t.Context(), p.now(), deadlineIn(patience), "b"); g.conn != nil || g.err != nil {
		t.Errorf("another host: %+v", g)
	}
}

func TestPoolIdleBounds(t *testing.T) {
	t.Parallel()
	p, _, dial := fakePool(t, Options{MaxIdlePerHost: 2, MaxIdle: 3})
	a := fill(t, p, "a", 3, dial) // the first one is closed: two per host
	b := fill(t, p, "b", 2, dial) // the second one of a goes: three in all
	want := []struct {
		c      *conn
		closed bool
	}{{a[0], true}, {a[1], true}, {a[2], false}, {b[0], false}, {b[1], false}}
	for i, w := range want {
		if closed(w.c) != w.closed {
			t.Errorf("connection %d: closed %t, want %t", i, !w.closed, w.closed)
		}
	}
	if p.idle != 3 || p.hosts["a"].open != 1 || p.hosts["b"].open != 2 {
		t.Errorf("%d idle, %d and %d open", p.idle, p.hosts["a"].open, p.hosts["b"].open)
	}
}

func TestPoolReap(t *testing.T) {
	t.Parallel()
	p, ticks, dial := fakePool(t, Options{IdleTimeout: time.Minute})
	old := fill(t, p, "a", 1, dial)[0]
	ticks.advance(40 * time.Second)
	young := fill(t, p, "b", 1, dial)[0]
	ticks.advance(25 * time.Second)
	p.reap()
	if !closed(old) || closed(young) || p.idle != 1 || p.hosts["a"] != nil {
		t.Errorf("old closed %t, young closed %t, %d idle, hosts %v", closed(old), closed(young), p.idle, p.hosts)
	}
	ticks.advance(time.Minute)
	if g := p.get(t.Context(), p.now(), deadlineIn(patience), "b"); g.conn != nil || !closed(young) {
		t.Errorf("got %+v; want no connection that is too old", g)
	}
}

func TestPoolServesInOrder(t *testing.T) {
	t.Parallel()
	p, _, dial := fakePool(t, Options{MaxConnsPerHost: 1})
	c := dial("a", p.get(t.Context(), p.now(), deadlineIn(patience), "a"))
	got := make(chan int)
	for i := range 3 {
		go func() {
			g := p.get(t.Context(), p.now(), deadlineIn(patience), "a")
			if g.conn != c {
				t.Errorf("waiter %d: %+v", i, g)
			}
			got <- i
		}()
		eventually(t, "it waits", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.hosts["a"].waiting) == i+1
		})
	}
	for i := range 3 {
		p.put(c, p.now())
		if n := <-got; n != i {
			t.Errorf("waiter %d was served as number %d", n, i)
		}
	}
}

func TestPoolPassesOnThePlaceOfALostConnection(t *testing.T) {
	t.Parallel()
	p, _, dial := fakePool(t, Options{MaxConnsPerHost: 1})
	c := dial("a", p.get(t.Context(), p.now(), deadlineIn(patience), "a"))
	got := make(chan grant)
	go func() { got <- p.get(t.Context(), p.now(), deadlineIn(patience), "a") }()
	eventually(t, "it waits", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.hosts["a"].waiting) == 1
	})
	p.drop(c)
	if g := <-got; g.err != nil || g.conn != nil || p.hosts["a"].open != 1 {
		t.Errorf("got %+v with %d open; want permission to dial", g, p.hosts["a"].open)
	}
	p.free("a")
	if len(p.hosts) != 0 {
		t.Errorf("%d hosts are remembered without a connection", len(p.hosts))
	}
}

// TestPoolStress has everything happen at once, and looks whether the books are
// right while it lasts and empty in the end.
func TestPoolStress(t *testing.T) {
	t.Parallel()
	const workers, rounds, perHost, maxIdle = 16, 300, 3, 5
	p, _, dial := fakePool(t, Options{MaxConnsPerHost: perHost, MaxIdlePerHost: 2, MaxIdle: maxIdle})
	var mu sync.Mutex
	inUse := make(map[string]int)
	count := func(key string, by int) {
		mu.Lock()
		defer mu.Unlock()
		if inUse[key] += by; inUse[key] > perHost {
			t.Errorf("%d connections to %s in use", inUse[key], key)
		}
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				key := fmt.Sprint("host", rand.IntN(4))
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(2000))*time.Microsecond)
				g := p.get(ctx, p.now(), deadlineIn(patience), key)
				cancel()
				if g.err != nil {
					continue
				}
				count(key, 1)
				c := g.conn
				if c == nil && rand.IntN(8) > 0 {
					c = dial(key, g)
				}
				count(key, -1)
				switch n := rand.IntN(16); {
				case c == nil:
					p.free(key)
				case n == 0:
					p.drop(c)
				default:
					p.put(c, p.now())
				}
				switch rand.IntN(64) {
				case 0:
					p.dropIdle(key)
				case 1:
					p.reap()
				}
			}
		})
	}
	wg.Wait()
	p.mu.Lock()
	idle := 0
	for key, h := range p.hosts {
		idle += len(h.idle)
		if h.open != len(h.idle) || len(h.waiting) != 0 {
			t.Errorf("%s: %d open, %d idle, %d waiting", key, h.open, len(h.idle), len(h.waiting))
		}
	}
	if idle != p.idle || idle > maxIdle {
		t.Errorf("%d idle, counted as %d, at most %d", idle, p.idle, maxIdle)
	}
	p.mu.Unlock()
	p.close()
	if len(p.hosts) != 0 || p.idle != 0 || p.oldest != nil || p.newest != nil {
		t.Errorf("after close: %d hosts, %d idle", len(p.hosts), p.idle)
	}
}
