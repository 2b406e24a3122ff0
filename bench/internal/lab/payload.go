package lab

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// Payloads makes events whose data is JSON of a given size as a telephony or
// CRM system would send it: repeated field names, varied values. Each carries
// its sequence number and the time it should have been sent at, both at a fixed
// width, so that the receiver finds them without parsing JSON.
type Payloads struct {
	bodies [][]byte // request bodies with zeros where sequence and time belong
	seqAt  []int    // offset of the sequence number in each body
}

// templates is how many different bodies there are; more than a bundle's
// deliveries would make compression pessimistic, one would make it absurd.
const templates = 64

const (
	seqDigits  = 10
	timeDigits = 19
	seqField   = `{"seq":"`
	timeField  = `","sent":"`
)

var (
	firstNames = []string{"Ada", "Grace", "Edsger", "Barbara", "Tony", "Leslie", "Donald", "Frances", "Ken", "Radia"}
	lastNames  = []string{"Lovelace", "Hopper", "Dijkstra", "Liskov", "Hoare", "Lamport", "Knuth", "Allen", "Thompson", "Perlman"}
	topics     = []string{"water damage", "roof repair", "new policy", "second opinion", "callback", "invoice", "estimate"}
	words      = []string{"the", "caller", "asked", "for", "a", "visit", "on", "site", "before", "noon", "and", "mentioned", "an", "earlier", "quote", "of", "last", "year", "which", "was", "not", "answered", "yet"}
)

// NewPayloads returns events whose data has size bytes.
func NewPayloads(size int) *Payloads {
	random := rand.New(rand.NewPCG(1, 2)) // the same bodies in every run
	p := &Payloads{}
	for range templates {
		var b bytes.Buffer
		b.WriteString(`{"type":"call.qualified","data":`)
		p.seqAt = append(p.seqAt, b.Len()+len(seqField))
		start := b.Len()
		fmt.Fprintf(&b, "%s%0*d%s%0*d\"", seqField, seqDigits, 0, timeField, timeDigits, 0)
		if size >= 400 {
			fmt.Fprintf(&b, `,"call":{"id":"%016x","number":"+1%010d","duration_s":%d,"topic":%q,"recorded":%t},"lead":{"name":"%s %s","score":%.3f,"zip":"%05d","tags":[%q,%q]}`,
				random.Uint64(), random.IntN(1e9), random.IntN(900), topics[random.IntN(len(topics))], random.IntN(2) == 0,
				firstNames[random.IntN(10)], lastNames[random.IntN(10)], random.Float64(), random.IntN(99999), topics[random.IntN(len(topics))], topics[random.IntN(len(topics))])
		}
		b.WriteString(`,"notes":"`)
		for b.Len()-start < size-2 {
			b.WriteString(words[random.IntN(len(words))])
			b.WriteByte(' ')
		}
		b.Truncate(start + size - 2)
		b.WriteString(`"}}`)
		p.bodies = append(p.bodies, b.Bytes())
	}
	return p
}

// AppendEvent appends the event with sequence number seq, to be sent at sent.
func (p *Payloads) AppendEvent(dst []byte, seq uint64, sent time.Time) []byte {
	i := int(seq % templates)
	at := len(dst) + p.seqAt[i]
	dst = append(dst, p.bodies[i]...)
	putDigits(dst[at:at+seqDigits], seq)
	at += seqDigits + len(timeField)
	putDigits(dst[at:at+timeDigits], uint64(sent.UnixNano()))
	return dst
}

func putDigits(dst []byte, v uint64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = byte('0' + v%10)
		v /= 10
	}
}

// ReadEvent finds sequence number and time in a delivered body.
func ReadEvent(body []byte) (seq uint64, sent time.Time, ok bool) {
	at := bytes.Index(body, []byte(seqField))
	if at < 0 || len(body) < at+len(seqField)+seqDigits+len(timeField)+timeDigits {
		return 0, time.Time{}, false
	}
	at += len(seqField)
	seq, err := strconv.ParseUint(string(body[at:at+seqDigits]), 10, 64)
	if err != nil {
		return 0, time.Time{}, false
	}
	at += seqDigits + len(timeField)
	nanos, err := strconv.ParseInt(string(body[at:at+timeDigits]), 10, 64)
	if err != nil {
		return 0, time.Time{}, false
	}
	return seq, time.Unix(0, nanos), true
}
