package queue

import (
	"encoding/binary"
	"fmt"

	"github.com/sealpost/sealpost/core/frame"
)

// taskType is the type name of all our tasks.
const taskType = "bundle"

// maxInline is the length of the longest frame that rides in its task's payload,
// in bytes. asynq writes the payloads of all running tasks back to Redis every
// five seconds, so they have to be small; below this a key of its own costs more.
const maxInline = 4 << 10

// The payload of a task is a version, a kind and what the kind says: the number
// of deliveries in the blob (uvarint), or the frame itself. The first run of a
// kindFirst need not look for the marks of an earlier one: nobody had used the
// task's id before.
const (
	payloadVersion = 1
	kindReference  = 'r'
	kindInline     = 'i'
	kindFirst      = 'f' // as kindInline
)

// payload is what a task carries.
type payload struct {
	frame      []byte // nil: in a blob
	deliveries int    // in the blob
	first      bool   // kindFirst
}

func inlinePayload(frame []byte, first bool) []byte {
	kind := byte(kindInline)
	if first {
		kind = kindFirst
	}
	return append(append(make([]byte, 0, 2+len(frame)), payloadVersion, kind), frame...)
}

// notFirst changes a payload that may be stored for the second time.
func notFirst(payload []byte) {
	if payload[1] == kindFirst {
		payload[1] = kindInline
	}
}

func referencePayload(deliveries int) []byte {
	return binary.AppendUvarint([]byte{payloadVersion, kindReference}, uint64(deliveries))
}

// undecodable returns the error of a task that this version does not understand.
func undecodable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", frame.ErrUndecodable, fmt.Sprintf(format, args...))
}

// parsePayload reads a payload. Every error is a frame.ErrUndecodable.
func parsePayload(b []byte) (payload, error) {
	if len(b) < 2 || b[0] != payloadVersion {
		return payload{}, undecodable("payload of %d bytes", len(b))
	}
	switch rest := b[2:]; b[1] {
	case kindInline, kindFirst:
		return payload{frame: rest, first: b[1] == kindFirst}, nil
	case kindReference:
		n, size := binary.Uvarint(rest)
		if size <= 0 || size != len(rest) || n == 0 || n > frame.MaxDeliveries {
			return payload{}, undecodable("payload of %d bytes", len(b))
		}
		return payload{deliveries: int(n)}, nil
	default:
		return payload{}, undecodable("payload kind %q", b[1])
	}
}
