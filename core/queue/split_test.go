package queue

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	join := func(groups ...[]core.Delivery) (ds []core.Delivery) {
		for _, g := range groups {
			ds = append(ds, g...)
		}
		return ds
	}
	group := func(deliveries, size int) []core.Delivery { return fanOut(event("evt", size), deliveries) }
	bulk := func(ds []core.Delivery) []core.Delivery {
		for i := range ds {
			ds[i].Bulk = true
		}
		return ds
	}
	tests := []struct {
		name string
		ds   []core.Delivery
		want []part
	}{
		{name: "nothing"},
		{name: "one", ds: group(1, 0), want: []part{{0, 1}}},
		{name: "a few events are one bundle", ds: join(group(3, 0), group(2, 0), group(1, 0)), want: []part{{0, 6}}},
		{name: "full", ds: group(256, 0), want: []part{{0, 256}}},
		{name: "wide event is divided", ds: group(600, 0), want: []part{{0, 256}, {256, 600}}},
		{name: "a rest joins the bundle before", ds: group(256+128, 0), want: []part{{0, 384}}},
		{name: "more than a rest does not", ds: group(256+129, 0), want: []part{{0, 256}, {256, 385}}},
		{name: "events that did not fit", ds: join(group(200, 0), group(100, 0), group(250, 0), group(20, 0)), want: []part{{0, 300}, {300, 570}}},
		{name: "an event is kept together", ds: join(group(200, 0), group(100, 0)), want: []part{{0, 300}}},
		{name: "rest of a wide event has room", ds: join(group(257, 0), group(3, 0)), want: []part{{0, 260}}},
		{name: "bytes", ds: join(group(1, 300<<10), group(1, 300<<10), group(1, 1000)), want: []part{{0, 1}, {1, 3}}},
		{name: "bulk stays by itself", ds: join(group(2, 0), bulk(group(3, 0)), group(1, 0)), want: []part{{0, 2}, {2, 5}, {5, 6}}},
		{name: "huge event travels alone", ds: join(group(1, 0), group(2, 2<<20), group(1, 0)), want: []part{{0, 1}, {1, 3}, {3, 4}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, split(tt.ds), cmp.AllowUnexported(part{})); diff != "" {
				t.Errorf("split (-want +got):\n%s", diff)
			}
		})
	}
}
