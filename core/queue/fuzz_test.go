package queue

import (
	"bytes"
	"errors"
	"testing"

	"github.com/sealpost/sealpost/core/frame"
)

// FuzzPayload: a task's payload is undecodable, or is one that a producer makes.
func FuzzPayload(f *testing.F) {
	f.Add(inlinePayload([]byte("frame"), true))
	f.Add(inlinePayload(nil, false))
	f.Add(referencePayload(1))
	f.Add(referencePayload(frame.MaxDeliveries + 1))
	f.Add([]byte{payloadVersion, kindReference, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePayload(b)
		switch {
		case err != nil:
			if !errors.Is(err, frame.ErrUndecodable) {
				t.Fatalf("error %v", err)
			}
		case p.deliveries > frame.MaxDeliveries || p.deliveries > 0 && p.frame != nil:
			t.Fatalf("payload %+v", p)
		case p.deliveries > 0:
			if q, err := parsePayload(referencePayload(p.deliveries)); err != nil || q.deliveries != p.deliveries {
				t.Fatalf("%d deliveries become %d, %v", p.deliveries, q.deliveries, err)
			}
		case !bytes.Equal(inlinePayload(p.frame, p.first), b):
			t.Fatalf("payload %q is read as %+v", b, p)
		}
	})
}
