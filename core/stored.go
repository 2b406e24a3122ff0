package core

import (
	"encoding/binary"
	"math"
)

// Stored tells which deliveries under a reservation are stored already: the endpoints of
// each of its events, by the event's Index. The events' ids would not tell: a batch under
// one key may contain an id twice.
type Stored map[int]map[string]struct{}

// noteVersion begins each note. One that begins otherwise says nothing.
const noteVersion = 1

// AppendNote appends to b a note that ds, deliveries under one reservation, are stored:
// each of their endpoints once, and about three bytes for each of them.
func AppendNote(b []byte, ds []Delivery) []byte {
	b = append(b, noteVersion)
	var endpoints []string
	index := make(map[string]uint64)
	for i := range ds {
		if _, ok := index[ds[i].Endpoint]; !ok {
			index[ds[i].Endpoint] = uint64(len(endpoints))
			endpoints = append(endpoints, ds[i].Endpoint)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(endpoints)))
	for _, id := range endpoints {
		b = binary.AppendUvarint(b, uint64(len(id)))
		b = append(b, id...)
	}
	for i := range ds {
		b = binary.AppendUvarint(b, uint64(ds[i].Event.Index))
		b = binary.AppendUvarint(b, index[ds[i].Endpoint])
	}
	return b
}

// ReadNotes returns what notes say. One of another version says nothing: its deliveries
// are stored once more, not lost.
func ReadNotes(notes []string) Stored {
	stored := make(Stored)
	for _, note := range notes {
		if note == "" || note[0] != noteVersion {
			continue
		}
		r := noteReader{rest: []byte(note[1:])}
		endpoints := r.endpoints()
		for len(r.rest) > 0 {
			event, endpoint := r.number(), r.number()
			if r.bad || endpoint >= uint64(len(endpoints)) || event > math.MaxInt32 {
				break
			}
			if stored[int(event)] == nil {
				stored[int(event)] = make(map[string]struct{})
			}
			stored[int(event)][endpoints[endpoint]] = struct{}{}
		}
	}
	return stored
}

// noteReader reads a note. Once it is bad it reads nothing more.
type noteReader struct {
	rest []byte
	bad  bool
}

func (r *noteReader) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.rest, r.bad = nil, true
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *noteReader) endpoints() []string {
	var ids []string
	for n := r.number(); n > 0 && !r.bad; n-- {
		size := r.number()
		if size > uint64(len(r.rest)) {
			r.rest, r.bad = nil, true
			break
		}
		ids, r.rest = append(ids, string(r.rest[:size])), r.rest[size:]
	}
	return ids
}
