package sender

import (
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
)

func testLanes(perEndpoint, slotCount int, deliveries ...string) *lanes {
	ls := &lanes{slots: newSlots(slotCount), limits: newLimiter(perEndpoint, time.Now), waiter: newWaiter(false), all: make(map[string]*lane)}
	for i, endpoint := range deliveries {
		ls.add(endpoint, i)
	}
	return ls
}

// A worker goes on with its lane, unless somebody else has wanted its slot for
// long, or nothing may be started any more.
func TestWorkerGoesOn(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		v        verdict
		mayStart bool
		wanted   bool
		after    time.Duration
		goesOn   bool
	}{
		{name: "nobody waits", mayStart: true, after: time.Hour, goesOn: true},
		{name: "somebody waits, not long", mayStart: true, wanted: true, after: turnTime - 1, goesOn: true},
		{name: "somebody waits", mayStart: true, wanted: true, after: turnTime},
		{name: "stopping"},
		{name: "unsettled", v: verdict{step: stepOpen}, mayStart: true},
		{name: "gone", v: verdict{outcome: core.OutcomeGone}, mayStart: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ls := testLanes(2, 1, "a", "a", "a")
			if !ls.slots.tryEnter(false) {
				t.Fatal("no slot")
			}
			l, i, crowded := ls.begin()
			if l == nil || i != 0 || crowded != 0 {
				t.Fatalf("begin = %v, %d, %d; want the first delivery", l, i, crowded)
			}
			if tt.wanted {
				ls.slots.waiting.Add(1)
			}
			i, ok := ls.next(l, &tt.v, tt.mayStart, tt.after)
			if ok != tt.goesOn || ok && i != 1 {
				t.Errorf("next = %d, %t; want to go on: %t", i, ok, tt.goesOn)
			}
			if got := ls.slots.inUse() == 1; got != tt.goesOn {
				t.Errorf("the slot is taken: %t", got)
			}
			if got := ls.running == 1; got != tt.goesOn {
				t.Errorf("in flight: %t", got)
			}
			if vs, _ := ls.collect(); len(vs) != 1 || vs[0] != &tt.v {
				t.Errorf("collected %v", vs)
			}
			if !tt.goesOn && (l.held != 1 || !ls.wantsSlot()) {
				t.Errorf("%d slots of the endpoint held, wants a slot: %t; the lane has two deliveries left", l.held, ls.wantsSlot())
			}
		})
	}
}

// A lane whose endpoint is full waits; when its workers empty it all the same,
// it waits no longer, and the endpoint's slots come back.
func TestLaneEmptiedWhileItWaits(t *testing.T) {
	t.Parallel()
	ls := testLanes(1, 4, "a", "a")
	take := func() (*lane, int, int) {
		ls.slots.tryEnter(false)
		return ls.begin()
	}
	l, first, _ := take()
	if none, _, crowded := take(); none != nil || crowded != 1 || !l.waiting {
		t.Fatalf("begin = %v, %d crowded, waiting %t; the endpoint has one slot", none, crowded, l.waiting)
	}
	ls.slots.leave(false)
	second, ok := ls.next(l, &verdict{index: first}, true, 0)
	if !ok || second != 1 || l.waiting || ls.waiting != 0 {
		t.Fatalf("next = %d, %t; waiting %t, %d", second, ok, l.waiting, ls.waiting)
	}
	if _, ok := ls.next(l, &verdict{index: second}, true, 0); ok {
		t.Fatal("there is a third delivery")
	}
	if got, _ := ls.collect(); len(got) != 2 || !ls.over() {
		t.Errorf("collected %d, over %t", len(got), ls.over())
	}
	if ls.slots.inUse() != 0 || len(ls.limits.gates) != 0 {
		t.Errorf("%d slots of the process and %d endpoints still taken", ls.slots.inUse(), len(ls.limits.gates))
	}
}

// A lane that waits while slots of its endpoint are its own already, handed over or
// held, gives all of them back when nothing is to be started any more.
func TestHaltGivesSlotsBack(t *testing.T) {
	t.Parallel()
	ls := testLanes(2, 4, "a", "a", "a", "a", "a")
	other := newWaiter(false)
	for range 2 {
		ls.limits.acquire("a", other, 1)
	}
	ls.slots.tryEnter(false)
	if l, _, crowded := ls.begin(); l != nil || crowded != 5 {
		t.Fatalf("begin = %v, %d crowded; the endpoint is full", l, crowded)
	}
	ls.limits.release("a")
	ls.receiveSlots()
	l, first, _ := ls.begin()
	if l == nil || !l.waiting {
		t.Fatalf("begin = %v; want a lane that waits for more", l)
	}
	ls.limits.release("a") // handed over, and not yet taken
	if _, ok := ls.next(l, &verdict{index: first}, false, 0); ok || l.held != 1 {
		t.Fatalf("next = %t, %d slots held; nothing may be started", ok, l.held)
	}
	if rest := ls.halt(); len(rest) != 4 {
		t.Errorf("%v were not started; want 4", rest)
	}
	if got, _ := ls.collect(); len(got) != 1 || !ls.over() {
		t.Errorf("collected %d, over %t", len(got), ls.over())
	}
	if ls.slots.inUse() != 0 || len(ls.limits.gates) != 0 {
		t.Errorf("%d slots of the process and %d endpoints still taken", ls.slots.inUse(), len(ls.limits.gates))
	}
}
