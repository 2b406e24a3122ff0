package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/bench/internal/leak"
	"github.com/sealpost/sealpost/core"
)

// mostTold bounds the finds that a result tells one by one.
const mostTold = 5

// secrets looks for every secret of the world in all that it leaves: Redis and its
// files, logs, and what the admin listeners answer. It ends the world's programs,
// two of them with a crash, so that their last words are there too.
func (w *world) secrets(ctx context.Context) error {
	f := leak.New()
	f.Bytes("the master key", w.stack.Master)
	f.Text("the API key of the bench", w.stack.Key, len(core.APIKeyHint(w.stack.Key)))
	for i, s := range w.streams {
		f.Text(fmt.Sprintf("the API key of stream %d", i), s.key, len(core.APIKeyHint(s.key)))
		for j, secret := range s.secrets {
			f.SigningSecret(fmt.Sprintf("secret %d of stream %d", j, i), secret)
		}
	}
	if err := w.search(ctx, f); err != nil {
		w.stack.Keep = true
		return fmt.Errorf("look for secrets: %w", err)
	}
	w.res.Figures["searched_MiB"] = float64(f.Looked()) / (1 << 20)
	found := f.Found()
	if w.res.Leaked = len(found); w.res.Leaked == w.res.Planted {
		return nil
	}
	w.broken("%d secrets leaked, %d were planted", w.res.Leaked, w.res.Planted)
	for _, find := range found[:min(len(found), mostTold)] {
		w.broken("%v", find)
	}
	w.stack.Keep = true
	return nil
}

// search looks everywhere: first at what lives, then at what is left of it.
func (w *world) search(ctx context.Context, f *leak.Finder) error {
	if err := f.Redis(ctx, w.stack.Client); err != nil {
		return err
	}
	for name, p := range w.programs() {
		if p.Ended() {
			continue // which is a broken promise already
		}
		for _, path := range []string{"/metrics", "/healthz", "/readyz", "/top", "/debug/pprof/goroutine?debug=2"} {
			if err := f.URL(ctx, path+" of the "+name, p.Admin+path); err != nil {
				return err
			}
		}
	}
	w.stack.Gateway.Crash()
	w.stack.Senders[0].Crash()
	w.stack.Stop()
	return f.Files(w.stack.Dir)
}

// deliberateLeak writes a signing secret into Redis, and with it into Redis's file.
func deliberateLeak(ctx context.Context, w *world) error {
	if err := sleep(ctx, time.Second); err != nil {
		return err
	}
	w.res.Planted = 2
	w.res.Injected++
	return w.stack.Client.Set(ctx, "planted", w.streams[0].secrets[0], 0).Err()
}
