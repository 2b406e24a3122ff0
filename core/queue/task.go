package queue

import "encoding/binary"

// taskType is the type name of all our tasks.
const taskType = "bundle"

// maxInline is the length of the longest frame that rides in its task's payload,
// in bytes. asynq writes the payloads of all running tasks back to Redis every
// five seconds, so they have to be small; below this a key of its own costs more.
const maxInline = 4 << 10

// The payload of a task is a version, a kind and what the kind says: the number
// of deliveries in the blob (uvarint), or the frame itself.
const (
	payloadVersion = 1
	kindReference  = 'r'
	kindInline     = 'i'
)

// maxBundleSize bounds the deliveries of a bundle that is read: far above what a
// producer writes.
const maxBundleSize = 1 << 16

func inlinePayload(frame []byte) []byte {
	return append(append(make([]byte, 0, 2+len(frame)), payloadVersion, kindInline), frame...)
}

func referencePayload(deliveries int) []byte {
	return binary.AppendUvarint([]byte{payloadVersion, kindReference}, uint64(deliveries))
}

// parsePayload returns the frame in a payload or, for one that refers to a blob,
// a nil frame and the number of deliveries. Every error is an errUndecodable.
func parsePayload(b []byte) (frame []byte, deliveries int, err error) {
	if len(b) < 2 || b[0] != payloadVersion {
		return nil, 0, undecodable("payload of %d bytes", len(b))
	}
	switch rest := b[2:]; b[1] {
	case kindInline:
		return rest, 0, nil
	case kindReference:
		n, size := binary.Uvarint(rest)
		if size <= 0 || size != len(rest) || n == 0 || n > maxBundleSize {
			return nil, 0, undecodable("payload of %d bytes", len(b))
		}
		return nil, int(n), nil
	default:
		return nil, 0, undecodable("payload kind %q", b[1])
	}
}
