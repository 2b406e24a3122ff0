package core

import (
	"bytes"
	"encoding/hex"
	"strings"
)

// The headers of W3C Trace Context.
const (
	HeaderTraceParent = "traceparent"
	HeaderTraceState  = "tracestate"
)

const (
	// MaxTraceState bounds a tracestate, in bytes: what W3C Trace Context asks to
	// carry at least.
	MaxTraceState = 512

	maxTraceStateEntries = 32
	wideTraceStateEntry  = 128 // bytes; a larger entry is the first to go when there is too much
)

// Bits of TraceContext.Flags. The others have no meaning yet and are dropped.
const (
	TraceSampled = 1 // its owner records this trace
	TraceRandom  = 2 // the id's second half is random
)

// TraceContext is where a request stands in a distributed trace.
type TraceContext struct {
	TraceID [16]byte // not zero
	SpanID  [8]byte  // of the step that made the request; not zero
	Flags   byte
	State   string // vendors' own positions, as in the header tracestate; "" if there are none
}

// lengths of the parts of a traceparent.
const (
	traceParentLength = len("00-") + 32 + len("-") + 16 + len("-00")
	traceIDAt         = len("00-")
	spanIDAt          = traceIDAt + 32 + len("-")
	flagsAt           = spanIDAt + 16 + len("-")
)

// ParseTraceParent reads the header traceparent as W3C Trace Context has it, of
// this version and of later ones. ok is false for what has to be ignored.
func ParseTraceParent(header []byte) (t TraceContext, ok bool) {
	var version, flags [1]byte
	switch {
	case len(header) < traceParentLength,
		header[traceIDAt-1] != '-', header[spanIDAt-1] != '-', header[flagsAt-1] != '-',
		!lowerHex(version[:], header[:2]), !lowerHex(t.TraceID[:], header[traceIDAt:spanIDAt-1]),
		!lowerHex(t.SpanID[:], header[spanIDAt:flagsAt-1]), !lowerHex(flags[:], header[flagsAt:traceParentLength]),
		t.TraceID == [16]byte{}, t.SpanID == [8]byte{}, version[0] == 0xff:
		return TraceContext{}, false
	case len(header) > traceParentLength && (version[0] == 0 || header[traceParentLength] != '-'):
		return TraceContext{}, false // only a later version may say more
	}
	t.Flags = flags[0] & (TraceSampled | TraceRandom)
	return t, true
}

// lowerHex decodes src, which holds twice as many lower-case digits as dst bytes.
func lowerHex(dst, src []byte) bool {
	for _, c := range src {
		if 'A' <= c && c <= 'F' {
			return false
		}
	}
	_, err := hex.Decode(dst, src)
	return err == nil
}

// ParseTraceState reads the headers tracestate, which are one list, and returns
// what is passed on of it: at most 32 entries and MaxTraceState bytes. A list
// that breaks the rules of W3C Trace Context yields "".
func ParseTraceState(headers [][]byte) string {
	var entries []string
	size := 0
	for _, header := range headers {
		for entry := range bytes.SplitSeq(header, []byte(",")) {
			entry = bytes.Trim(entry, " \t")
			if len(entry) == 0 {
				continue
			}
			if len(entries) == maxTraceStateEntries || !validTraceStateEntry(entry) || hasTraceStateKey(entries, entry) {
				return ""
			}
			entries = append(entries, string(entry))
			size += len(entry) + len(",")
		}
	}
	return joinTraceState(entries, size)
}

// joinTraceState joins entries of the given size: if that is too much without
// the wide ones, and then without the last ones.
func joinTraceState(entries []string, size int) string {
	tooLong := size-len(",") > MaxTraceState
	var b strings.Builder
	for _, entry := range entries {
		if tooLong && len(entry) > wideTraceStateEntry {
			continue
		}
		if b.Len() > 0 && b.Len()+len(",")+len(entry) > MaxTraceState {
			break
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(entry)
	}
	return b.String()
}

func hasTraceStateKey(entries []string, entry []byte) bool {
	key := string(entry[:bytes.IndexByte(entry, '=')+1])
	for _, e := range entries {
		if strings.HasPrefix(e, key) {
			return true
		}
	}
	return false
}

// validTraceStateEntry reports whether entry is `key=value`: a key of 1 to 256
// of `a-z 0-9 _ - * / @` that begins with a letter or digit, and a value of 1 to
// 256 visible characters and spaces without `,` and `=`.
func validTraceStateEntry(entry []byte) bool {
	key, value, found := bytes.Cut(entry, []byte("="))
	if !found || len(key) == 0 || len(key) > 256 || len(value) == 0 || len(value) > 256 {
		return false
	}
	for i, c := range key {
		alphanumeric := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !alphanumeric && (i == 0 || !strings.ContainsRune("_-*/@", rune(c))) {
			return false
		}
	}
	for _, c := range value {
		if c < ' ' || c > '~' || c == '=' { // commas separate entries
			return false
		}
	}
	return true
}

// Sampled reports whether the trace's owner records it.
func (t *TraceContext) Sampled() bool { return t.Flags&TraceSampled != 0 }

// ID returns the trace's id as it is written everywhere.
func (t *TraceContext) ID() string { return hex.EncodeToString(t.TraceID[:]) }

// AppendParent appends the value of the header traceparent.
func (t *TraceContext) AppendParent(dst []byte) []byte {
	dst = append(dst, "00-"...)
	dst = hex.AppendEncode(dst, t.TraceID[:])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, t.SpanID[:])
	return hex.AppendEncode(append(dst, '-'), []byte{t.Flags})
}
