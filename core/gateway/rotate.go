package gateway

import (
	"bytes"
	"fmt"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/core"
)

// maxOverlap bounds how long a previous secret may stay valid.
const maxOverlap = 168 * time.Hour

// rotateSecret is POST /api/v1/webhooks/{id}/rotate-secret.
func (s *Server) rotateSecret(x *exchange) error {
	e, body, err := s.findWithBody(x)
	if err != nil {
		return err
	}
	overlap, err := s.overlap(x, body)
	if err != nil {
		return err
	}
	ctx, cancel := x.storeContext()
	defer cancel()
	var secret string
	e, err = s.o.Store.UpdateEndpoint(ctx, e.Ref(), func(e *core.Endpoint) error {
		now := s.o.Now()
		version := uint32(1)
		for i := range e.Secrets {
			version = max(version, e.Secrets[i].Version+1)
		}
		fresh, record := s.o.Keyring.NewSecret(e.Ref(), version, now.UTC().Truncate(time.Millisecond))
		secret = fresh
		return e.Rotate(record, overlap, now)
	})
	if err != nil {
		return err
	}
	s.logChange(x, "signing secret rotated", e.ID)
	// The answer promises that the new secret signs every request from now on,
	// and without overlap that the old ones no longer do.
	time.Sleep(core.ChangeDelay)
	x.noStore()
	return x.replyJSON(fasthttp.StatusOK, rotatedJSON{
		ID: e.ID, URL: e.URL, SigningSecretPrefix: currentPrefix(e), SigningSecret: secret,
		Warning: saveWarning + " " + overlapWarning(overlap),
	})
}

// overlap reads the optional body of a rotation.
func (s *Server) overlap(x *exchange, body []byte) (time.Duration, error) {
	if len(bytes.Trim(body, jsonSpace)) == 0 {
		return s.o.RotationOverlap, nil
	}
	f, err := x.parseForm(body, "overlap")
	if err != nil {
		return 0, err
	}
	overlap := s.o.RotationOverlap
	if text, ok := f.text("overlap"); ok {
		overlap, err = time.ParseDuration(text)
		if err != nil || overlap < 0 || overlap > maxOverlap {
			f.errs.add("overlap", `must be a duration between "0s" and "168h"`)
		}
	}
	return overlap, f.err()
}

func overlapWarning(overlap time.Duration) string {
	if overlap == 0 {
		return "All previous secrets were retired at once."
	}
	return "The previous secret remains valid for " + spell(overlap) + "."
}

// spell writes a duration in words if it is of whole seconds.
func spell(d time.Duration) string {
	if d%time.Second != 0 {
		return d.String()
	}
	var words string
	for _, unit := range []struct {
		name string
		size time.Duration
	}{{"hour", time.Hour}, {"minute", time.Minute}, {"second", time.Second}} {
		n := d / unit.size
		d %= unit.size
		if n == 0 {
			continue
		}
		if words != "" {
			words += " "
		}
		words += fmt.Sprintf("%d %s", n, unit.name)
		if n != 1 {
			words += "s"
		}
	}
	return words
}
