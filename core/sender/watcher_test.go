package sender

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/core"
)

// stubWatcher counts.
type stubWatcher struct{ works, attempts atomic.Int64 }

func (w *stubWatcher) Work(time.Time)    { w.works.Add(1) }
func (w *stubWatcher) Attempt(time.Time) { w.attempts.Add(1) }

// since returns what was counted since the last call.
func (w *stubWatcher) since() (works, attempts int64) { return w.works.Swap(0), w.attempts.Swap(0) }

// The watcher hears of all that a sender does, be it without attempts.
func TestWatcher(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		watcher := new(stubWatcher)
		f := newFixture(t, func(o *Options) { o.Watcher = watcher })
		ref := f.endpoint(1)
		if err := f.Handle(context.Background(), f.bundle(repeat(ref, 10)...)); err != nil {
			t.Fatal(err)
		}
		if works, attempts := watcher.since(); works != 1 || attempts != 10 {
			t.Errorf("a bundle of ten: %d works, %d attempts", works, attempts)
		}

		f.store.set(ref, func(e *core.Endpoint) { e.Enabled, e.Drop = false, false })
		time.Sleep(time.Minute)
		f.feed(ref, 0, 10, time.Millisecond)
		if works, attempts := watcher.since(); works != 10 || attempts != 0 {
			t.Errorf("ten bundles that are put aside: %d works, %d attempts", works, attempts)
		}

		f.store.set(ref, func(e *core.Endpoint) { e.Enabled = true })
		time.Sleep(core.ChangeDelay)
		stop := f.start()
		f.store.wake(ref)
		time.Sleep(time.Second)
		if works, attempts := watcher.since(); works == 0 || attempts != 10 || f.store.left(ref) != 0 {
			t.Errorf("a backlog of ten: %d works, %d attempts, %d left", works, attempts, f.store.left(ref))
		}

		f.store.most = drainAhead
		f.store.set(ref, func(e *core.Endpoint) { e.Enabled = false })
		time.Sleep(time.Minute)
		f.feed(ref, 10, 5*drainAhead, time.Millisecond)
		const bundles, above = 5 * drainAhead, 4 * drainAhead
		time.Sleep(10 * time.Second)
		// For each delivery above the bounds it is read, trimmed, and read again.
		if works, attempts := watcher.since(); works < bundles+3*above || attempts != 0 || f.store.left(ref) != drainAhead {
			t.Errorf("a backlog above its bounds: %d works beside the bundles, %d attempts, %d left", works-bundles, attempts, f.store.left(ref))
		}
		stop()
	})
}
