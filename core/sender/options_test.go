package sender

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	tests := []struct {
		field  string
		change func(*Options)
	}{
		{"", func(*Options) {}},
		{"Store", func(o *Options) { o.Store = nil }},
		{"Queue", func(o *Options) { o.Queue = nil }},
		{"Client", func(o *Options) { o.Client = nil }},
		{"Keyring", func(o *Options) { o.Keyring = nil }},
		{"Announcer", func(o *Options) { o.Announcer = nil }},
		{"duration", func(o *Options) { o.DisableAfter = -1 }},
		{"Logger", func(o *Options) { o.Logger = nil }},
		{"Registerer", func(o *Options) { o.Registerer = nil }},
		{"Schedule", func(o *Options) { o.Schedule.Base = 0 }},
		{"DeliveryTimeout", func(o *Options) { o.DeliveryTimeout = 0 }},
		{"Concurrency", func(o *Options) { o.Concurrency = 0 }},
		{"PerEndpoint", func(o *Options) { o.PerEndpoint = -1 }},
		{"HandlerLimit", func(o *Options) { o.HandlerLimit = time.Minute }},
	}
	for _, tt := range tests {
		t.Run(tt.field, func(t *testing.T) {
			t.Parallel()
			o := Options{
				Store: &stubStore{}, Queue: &stubQueue{}, Client: &stubPoster{}, Keyring: testKeyring(t, "k1"), Announcer: &stubAnnouncer{},
				Schedule: testSchedule(), DeliveryTimeout: time.Second, Concurrency: 1,
				Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
			}
			tt.change(&o)
			_, err := New(o)
			if tt.field == "" {
				if err != nil {
					t.Errorf("New: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.field) {
				t.Errorf("New: %v; want an error about %s", err, tt.field)
			}
		})
	}
}

func TestRegisteringTwiceFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	_, err := New(Options{
		Store: f.store, Queue: f.queue, Client: f.poster, Keyring: f.keyring, Announcer: f.told, Schedule: testSchedule(),
		DeliveryTimeout: time.Second, Concurrency: 1, Logger: slog.New(slog.DiscardHandler), Registerer: f.reg,
	})
	if err == nil {
		t.Error("New = nil; want an error about the metrics")
	}
}
