package sender

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
)

// nowhere stores nothing and answers 200 at once: what remains is the sender's
// own work.
type nowhere struct {
	*stubBacklogs
	endpoint *core.Endpoint
}

func (n nowhere) Records(_ context.Context, refs []core.EndpointRef) ([]*core.Endpoint, error) {
	out := make([]*core.Endpoint, len(refs))
	for i := range out {
		out[i] = n.endpoint
	}
	return out, nil
}

func (nowhere) OneNode() bool { return true }

func (nowhere) Record(context.Context, core.Record) error               { return nil }
func (nowhere) AddDeadLetters(context.Context, []core.DeadLetter) error { return nil }
func (nowhere) Retry(context.Context, []core.Delivery) []error          { return nil }
func (nowhere) Defer(context.Context, []core.Delivery, time.Time) error { return nil }
func (nowhere) DropIdle(*egress.Target)                                 {}
func (n nowhere) UpdateEndpoint(context.Context, core.EndpointRef, func(*core.Endpoint) error) (*core.Endpoint, error) {
	return n.endpoint, nil
}

func (nowhere) Post(_ context.Context, _ time.Time, _ time.Duration, _ *egress.Target, compose egress.Compose) egress.Result {
	var m egress.Message
	var buf [512]byte
	m.Header = buf[:0]
	if err := compose(&m); err != nil {
		return egress.Result{Err: err}
	}
	return egress.Result{Status: 200, Started: true}
}

func BenchmarkHandle(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			keyring := testKeyring(b, "k1")
			ref := core.EndpointRef{Organization: testOrg, ID: core.NewEndpointID()}
			_, secret := keyring.NewSecret(ref, 1, time.Now())
			stub := nowhere{stubBacklogs: newStubBacklogs(), endpoint: &core.Endpoint{
				ID: ref.ID, Organization: ref.Organization, URL: "https://example.com/", Enabled: true,
				Secrets: []core.Secret{secret},
			}}
			s, err := New(Options{
				Store: stub, Queue: stub, Client: stub, Keyring: keyring, Announcer: &stubAnnouncer{}, Schedule: testSchedule(),
				DeliveryTimeout: 15 * time.Second, Concurrency: 128,
				Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
			})
			if err != nil {
				b.Fatal(err)
			}
			event := &core.Event{ID: "evt_1", Type: "lead.created", Body: make([]byte, 1024), AcceptedAt: time.Now()}
			bundle := &core.Bundle{ID: "b", Mark: core.Mark{DoneKey: "done"}}
			for range n {
				bundle.Deliveries = append(bundle.Deliveries, core.Delivery{
					ID: "whd_1", Organization: ref.Organization, Endpoint: ref.ID, Event: event,
				})
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Handle(context.Background(), bundle); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/delivery")
		})
	}
}
