package queue

import (
	"bytes"
	"errors"
	"testing"

	"github.com/sealpost/sealpost/core/frame"
)

func TestPayload(t *testing.T) {
	t.Parallel()
	inline := []byte{1, 2, 3}
	for _, first := range []bool{true, false} {
		b := inlinePayload(inline, first)
		if got, err := parsePayload(b); err != nil || got.deliveries != 0 || got.first != first || !bytes.Equal(got.frame, inline) {
			t.Errorf("inline, first %t: %+v, %v", first, got, err)
		}
		notFirst(b)
		if got, err := parsePayload(b); err != nil || got.first || !bytes.Equal(got.frame, inline) {
			t.Errorf("inline, stored again: %+v, %v", got, err)
		}
	}
	for _, size := range []int{1, 256, frame.MaxDeliveries} {
		b := referencePayload(size)
		notFirst(b)
		if got, err := parsePayload(b); err != nil || got.deliveries != size || got.frame != nil || got.first {
			t.Errorf("reference to %d: %+v, %v", size, got, err)
		}
	}
	bad := [][]byte{
		nil, {1}, {2, 'i', 0}, {1, 'x', 0}, {1, 'r'}, {1, 'r', 0}, {1, 'r', 1, 1}, {1, 'r', 0x80},
		referencePayload(frame.MaxDeliveries + 1),
	}
	for _, b := range bad {
		if _, err := parsePayload(b); !errors.Is(err, frame.ErrUndecodable) {
			t.Errorf("parsePayload(%x) = %v; want %v", b, err, frame.ErrUndecodable)
		}
	}
}
