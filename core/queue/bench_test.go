package queue

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

// BenchmarkEnqueueToHandler measures the way of one bundle through an idle
// queue, of one small delivery inside its task and of a hundred in a blob.
func BenchmarkEnqueueToHandler(b *testing.B) {
	for _, bench := range []struct {
		name       string
		deliveries int
	}{{"inline", 1}, {"blob100", 100}} {
		b.Run(bench.name, func(b *testing.B) {
			o := Options{Client: redistest.Start(b).Client(b), Registerer: prometheus.NewRegistry()}
			p, err := NewProducer(ProducerOptions{Options: o})
			if err != nil {
				b.Fatal(err)
			}
			arrived := make(chan time.Time, 1)
			c, err := NewConsumer(ConsumerOptions{Options: o, Handler: func(context.Context, *core.Bundle) error {
				arrived <- time.Now()
				return nil
			}})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- c.Run(ctx) }()
			ds := fanOut(event("evt_1", 1024), bench.deliveries)
			var waits []time.Duration
			b.ReportAllocs()
			for b.Loop() {
				start := time.Now()
				if errs := p.Enqueue(ctx, ds); errs != nil {
					b.Fatal(errs)
				}
				waits = append(waits, (<-arrived).Sub(start))
			}
			slices.Sort(waits)
			b.ReportMetric(float64(waits[len(waits)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds()), "p99-µs")
			cancel()
			if err := <-ended; err != nil {
				b.Error(err)
			}
		})
	}
}
