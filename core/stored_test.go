package core

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNotes(t *testing.T) {
	t.Parallel()
	d := func(event int, endpoint string) Delivery {
		return Delivery{Endpoint: endpoint, Event: &Event{Index: event}}
	}
	one := AppendNote(nil, []Delivery{d(0, "a"), d(0, "bb"), d(3, "a"), d(999, "bb")})
	two := AppendNote(nil, []Delivery{d(3, "c")})
	want := Stored{0: {"a": {}, "bb": {}}, 3: {"a": {}, "c": {}}, 999: {"bb": {}}}
	if diff := cmp.Diff(want, ReadNotes([]string{string(one), string(two), string(one)})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for n := range one { // what is cut off says nothing that is not so
		for event, endpoints := range ReadNotes([]string{string(one[:n])}) {
			for endpoint := range endpoints {
				if _, ok := want[event][endpoint]; !ok {
					t.Errorf("%d bytes of the note say that event %d is stored for %q", n, event, endpoint)
				}
			}
		}
	}
	for _, other := range []byte{0, noteVersion + 1} {
		if got := ReadNotes([]string{string(append([]byte{other}, one[1:]...))}); len(got) != 0 {
			t.Errorf("a note of version %d says %v", other, got)
		}
	}
	k := Keyed{From: 2, To: 5, Reservation: Reservation{Answer: []byte("a")}}
	ds := []Delivery{d(0, "a"), d(1, "a"), d(2, "a"), d(3, "a"), d(4, "a"), d(5, "a")}
	for _, tt := range []struct {
		from, to int
		note     []Delivery
		whole    bool
	}{{0, 6, ds[2:5], true}, {2, 5, ds[2:5], true}, {0, 4, ds[2:4], false}, {3, 6, ds[3:5], false}, {0, 2, nil, false}, {5, 6, nil, false}} {
		var want []byte
		if tt.note != nil {
			want = AppendNote(nil, tt.note)
		}
		if diff := cmp.Diff(want, k.Note(ds, tt.from, tt.to)); diff != "" {
			t.Errorf("note of %d to %d (-want +got):\n%s", tt.from, tt.to, diff)
		}
		if whole := k.Whole(tt.from, tt.to); whole != tt.whole {
			t.Errorf("%d to %d are the whole: %t", tt.from, tt.to, whole)
		}
	}
	k.Answer = nil
	if k.Whole(0, 6) {
		t.Error("what has no answer yet is kept as a whole")
	}
}

// Whatever stands in Redis, reading it costs no more than it is long.
func FuzzReadNotes(f *testing.F) {
	f.Add("")
	f.Add(string(AppendNote(nil, []Delivery{{Endpoint: "whk_1", Event: &Event{Index: 300}}})))
	f.Add("\x01\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a")
	f.Fuzz(func(t *testing.T, note string) {
		n := 0
		for event, endpoints := range ReadNotes([]string{note}) {
			n += len(endpoints)
			if event < 0 {
				t.Errorf("event %d", event)
			}
		}
		if n > len(note) {
			t.Errorf("%d deliveries in %d bytes", n, len(note))
		}
	})
}
