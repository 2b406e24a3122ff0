package redisstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

func benchStore(b *testing.B) *Store {
	b.Helper()
	at, err := ParseURL(redistest.Start(b).URL())
	if err != nil {
		b.Fatal(err)
	}
	client := Open(at, ProfileStore)
	b.Cleanup(func() { client.Close() })
	s, err := New(Options{Client: client})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func BenchmarkRecord(b *testing.B) {
	for _, rows := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			s := benchStore(b)
			r := core.Record{Marks: []core.Mark{{DoneKey: "sp:{q}:bundle:x:done", BlobKey: "sp:{q}:bundle:x", Size: rows, TTL: time.Hour, All: true}}}
			for n := range rows {
				r.Attempts = append(r.Attempts, attempt(fmt.Sprintf("e%d", n%16), n, core.StatusDelivered))
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Record(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRecords(b *testing.B) {
	s := benchStore(b)
	var refs []core.EndpointRef
	for n := range 16 {
		e := endpoint("acme", n)
		if err := s.CreateEndpoint(b.Context(), e, 16); err != nil {
			b.Fatal(err)
		}
		refs = append(refs, e.Ref())
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Records(b.Context(), refs); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBegin(b *testing.B) {
	for _, claims := range []int{0, 1, 64} {
		b.Run(fmt.Sprintf("claims=%d", claims), func(b *testing.B) {
			s := benchStore(b)
			rs := make([]core.Reservation, claims)
			for i := range rs {
				rs[i] = reservation(fmt.Sprint("k", i), "a", "body")
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := s.Begin(b.Context(), []string{"acme"}, rs, core.Draws{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPark parks deliveries, reads them back and drains them.
func BenchmarkPark(b *testing.B) {
	for _, n := range []int{1, 256} {
		b.Run(fmt.Sprintf("deliveries=%d", n), func(b *testing.B) {
			s, ctx := benchStore(b), b.Context()
			ref := endpoint("acme", 1).Ref()
			ps := []core.Parking{{Endpoint: ref, Deliveries: parcels(ref, n, 1000)}}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Park(ctx, ps); err != nil {
					b.Fatal(err)
				}
				waiting, err := s.Backlog(ctx, ref, "", n)
				if err != nil || len(waiting) != n {
					b.Fatal(len(waiting), err)
				}
				if err := s.Record(ctx, core.Record{Drained: core.Drained{Endpoint: ref, Entries: waiting}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
