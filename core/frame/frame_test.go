package frame

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"

	"github.com/sealpost/sealpost/core"
)

// sameBytes spares go-cmp the search for differences inside payloads.
var sameBytes = cmp.Comparer(bytes.Equal)

func at(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func TestCodecRoundTrip(t *testing.T) {
	t.Parallel()
	small, large := event("evt_small", 0), event("evt_large", 300<<10)
	mixed := fanOut(small, 3)
	mixed = append(mixed, fanOut(large, 2)...)
	mixed[1].Organization, mixed[2].Organization = "other", ""
	mixed[3].Attempts, mixed[3].Due = 11, at(1_795_503_605_250)
	mixed[4].Endpoint = "not-a-uuid"
	upper := fanOut(small, 1)
	upper[0].Endpoint = strings.ToUpper(upper[0].Endpoint)
	var ids []core.Delivery
	for i, id := range []string{core.NewEventID(at(1_795_503_605_250)), core.NewEventID(at(0)), core.NewEventID(at(1<<48 - 1)), "evt_8" + strings.Repeat("0", 25), "order-17"} {
		e := event(id, 0)
		e.AcceptedAt = at(1_795_503_605_250 - 1000*int64(i))
		ids = append(ids, fanOut(e, 2)...)
		ids[2*i].ID = core.NewDeliveryID(e.AcceptedAt)
	}
	var followed []core.Delivery
	for i, origin := range []*core.Origin{nil, origin("req-1", ""), nil, origin("", "rojo=1"), origin(strings.Repeat("r", 128), ""), {RequestID: "alone"}} {
		e := event(fmt.Sprint("evt_", i), 10)
		e.Origin = origin
		followed = append(followed, fanOut(e, 1+i%2)...)
	}
	for i := range followed { // events of one request follow each other
		if i%3 == 0 {
			e := *followed[i].Event
			followed = append(followed, fanOut(&e, 2)...)
		}
	}
	var aged []core.Delivery
	for i, age := range []time.Duration{0, time.Second, core.MaxMaxAge, 1500 * time.Millisecond, 0} {
		e := event(fmt.Sprint("evt_", i), 10)
		e.MaxAge = age
		aged = append(aged, fanOut(e, 1+i%2)...)
	}
	tests := []struct {
		name string
		ds   []core.Delivery
	}{
		{name: "ages", ds: aged},
		{name: "origins", ds: followed},
		{name: "one small delivery", ds: fanOut(small, 1)},
		{name: "fan-out", ds: fanOut(small, 256)},
		{name: "mixed", ds: mixed},
		{name: "endpoint in upper case stays so", ds: upper},
		{name: "ids of ours and of others", ds: ids},
		{name: "nearly nothing", ds: []core.Delivery{{Event: &core.Event{Body: []byte{}}}}},
		{name: "bytes that are no text", ds: []core.Delivery{{ID: "d", Event: &core.Event{ID: "\xff\x00", Body: []byte{0, 0xff, '\n'}, AcceptedAt: at(-5)}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var e Encoder
			frame, err := e.Encode(tt.ds)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Decode(frame)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.ds, got, sameBytes); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
			for i := 1; i < len(tt.ds); i++ {
				if same := tt.ds[i].Event == tt.ds[i-1].Event; same != (got[i].Event == got[i-1].Event) {
					t.Errorf("deliveries %d and %d share their event: %t", i-1, i, same)
				}
				if same := tt.ds[i].Event.Origin == tt.ds[i-1].Event.Origin; same != (got[i].Event.Origin == got[i-1].Event.Origin) {
					t.Errorf("deliveries %d and %d share their event's origin: %t", i-1, i, same)
				}
			}
		})
	}
}

// TestCodecPinned holds the format: what is pending during an update must stay
// readable.
func TestCodecPinned(t *testing.T) {
	t.Parallel()
	ds := []core.Delivery{
		{ID: "whd_1", Organization: "acme", Endpoint: "0f0e0d0c-0b0a-4900-8706-050403020100", Event: &core.Event{ID: "evt_1", Type: "a.b", Body: []byte(`{}`), AcceptedAt: at(1000)}},
	}
	ds = append(ds, core.Delivery{ID: core.UnpackID(core.DeliveryIDPrefix, [16]byte{4: 4, 5: 2, 6: 0xaa, 15: 0xbb}), Organization: "acme", Endpoint: "e", Event: ds[0].Event, Attempts: 3, Due: at(2000)})
	var e Encoder
	frame, err := e.Encode(ds)
	if err != nil {
		t.Fatal(err)
	}
	const want = "020055119e8d43000000" + // header, length of the part that follows
		"01" + "d00f" + "04612e62" + "02" + "00" + "00" + "06" + "6576745f31" + // events
		"02" + "0000" + "0561636d6500" + "010f0e0d0c0b0a49008706050403020100" + "0365" + "0003" + "00a01f" +
		"06" + "0034" + "7768645f31" + "aa0000000000000000bb" +
		"7b7d"
	if got := hex.EncodeToString(frame); got != want {
		t.Errorf("frame\n got %s\nwant %s", got, want)
	}
}

// TestOriginsPinned holds the format of the column that most bundles lack.
func TestOriginsPinned(t *testing.T) {
	t.Parallel()
	both := origin("r1", "a=1")
	events := []*core.Event{{}, {Origin: both}, {Origin: both}, {Origin: &core.Origin{RequestID: "r2"}}}
	const want = "01" + "00" + "02" + "027231" + "04" + "0102030405060708090a0b0c0d0e0f10" + "1112131415161718" + "01" + "613d31" + "01" + "02" + "027232" + "00"
	if got := hex.EncodeToString(appendOrigins(nil, events)); got != want {
		t.Errorf("column\n got %s\nwant %s", got, want)
	}
	if got := appendOrigins(nil, events[:1]); len(got) != 1 {
		t.Errorf("events without origin cost %d bytes, want 1", len(got))
	}
}

// TestAgesPinned holds the format of the other column that most bundles lack.
func TestAgesPinned(t *testing.T) {
	t.Parallel()
	events := []*core.Event{{}, {MaxAge: time.Second}, {MaxAge: core.MaxMaxAge}}
	const want = "01" + "00" + "e807" + "8090fbd309"
	if got := hex.EncodeToString(appendAges(nil, events)); got != want {
		t.Errorf("column\n got %s\nwant %s", got, want)
	}
	if got := appendAges(nil, events[:1]); len(got) != 1 {
		t.Errorf("events without an age cost %d bytes, want 1", len(got))
	}
}

func TestAgesRefused(t *testing.T) {
	t.Parallel()
	for name, column := range map[string]string{
		"nothing": "", "unknown form": "02", "no event": "01", "cut off": "01e8", "beyond the bound": "018190fbd309",
	} {
		b, err := hex.DecodeString(column)
		if err != nil {
			t.Fatal(err)
		}
		r := reader{bytes: b, text: string(b)}
		if r.ages(make([]core.Event, 1)); !r.failed {
			t.Errorf("%s: %x is read", name, b)
		}
	}
}

func TestOriginsRefused(t *testing.T) {
	t.Parallel()
	for name, column := range map[string]string{
		"nothing": "", "unknown form": "02", "no event": "01", "same as nothing": "0101", "unknown entry": "0103",
		"request id cut off": "01020272", "trace cut off": "010200010102", "state cut off": "010200ff01" + strings.Repeat("00", traceSize),
	} {
		b, err := hex.DecodeString(column)
		if err != nil {
			t.Fatal(err)
		}
		r := reader{bytes: b, text: string(b)}
		if r.origins(make([]core.Event, 1)); !r.failed {
			t.Errorf("%s: %x is read", name, b)
		}
	}
}

// origin returns one with a trace.
func origin(requestID, state string) *core.Origin {
	trace := &core.TraceContext{Flags: core.TraceSampled, State: state}
	for i := range trace.TraceID {
		trace.TraceID[i] = byte(i + 1)
	}
	for i := range trace.SpanID {
		trace.SpanID[i] = byte(i + 0x11)
	}
	return &core.Origin{RequestID: requestID, Trace: trace}
}

func TestCodecCompresses(t *testing.T) {
	t.Parallel()
	var e Encoder
	ds := fanOut(event("evt_1", 0), 1)
	ds[0].Event.Body = []byte(strings.Repeat(`{"phone":"+4930123456","score":0.5}`, 30))
	frame, err := e.Encode(ds)
	if err != nil {
		t.Fatal(err)
	}
	if frame[1] != flagCompressed || len(frame) > 300 {
		t.Errorf("%d bytes, flags %d; want compressed, at most 300", len(frame), frame[1])
	}
}

func TestEncodeRefusesWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	var e Encoder
	if _, err := e.Encode(fanOut(event("evt_large", MaxBody), 1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an event of %d bytes: %v; want %v", MaxBody, err, ErrTooLarge)
	}
	if e.Retainable() {
		t.Error("its buffers are kept")
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	var e Encoder
	encoded, err := e.Encode(fanOut(event("evt_1", 2000), 3))
	if err != nil {
		t.Fatal(err)
	}
	frame := bytes.Clone(encoded)
	change := func(f func([]byte) []byte) []byte { return f(bytes.Clone(frame)) }
	tests := []struct {
		name  string
		frame []byte
	}{
		{name: "nothing"},
		{name: "header only", frame: frame[:header]},
		{name: "newer version", frame: change(func(b []byte) []byte { b[0]++; return b })},
		{name: "unknown flag", frame: change(func(b []byte) []byte { b[1] |= 2; return b })},
		{name: "cut off", frame: frame[:len(frame)-1]},
		{name: "something behind", frame: change(func(b []byte) []byte { return append(b, 0) })},
		{name: "bomb", frame: change(func(b []byte) []byte {
			return append(b[:header], s2.Encode(nil, make([]byte, MaxBody+1))...)
		})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if ds, err := Decode(tt.frame); !errors.Is(err, ErrUndecodable) {
				t.Errorf("Decode = %d deliveries, %v; want %v", len(ds), err, ErrUndecodable)
			}
		})
	}
	t.Run("any byte changed", func(t *testing.T) {
		t.Parallel()
		for i := range frame {
			b := bytes.Clone(frame)
			b[i] ^= 0x55
			if _, err := Decode(b); !errors.Is(err, ErrUndecodable) {
				t.Fatalf("byte %d changed: %v; want %v", i, err, ErrUndecodable)
			}
		}
	})
}

// FuzzDecode looks for panics and for memory that a short input makes it take.
// What it decodes has to survive a round trip.
func FuzzDecode(f *testing.F) {
	var e Encoder
	followed := event("evt_5", 0)
	followed.Origin, followed.MaxAge = origin("req-1", "rojo=1"), time.Hour
	for _, ds := range [][]core.Delivery{
		fanOut(followed, 1), append(fanOut(event("evt_6", 0), 1), fanOut(followed, 2)...),
		fanOut(event("evt_1", 0), 1), fanOut(event("evt_2", 600), 3),
		append(fanOut(event("evt_3", 0), 2), fanOut(event("evt_4", 0), 2)...),
	} {
		frame, err := e.Encode(ds)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.Clone(frame))
		f.Add(bytes.Clone(e.body))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := Decode(b); err != nil && !errors.Is(err, ErrUndecodable) {
			t.Errorf("Decode: %v", err)
		}
		ds, err := decodeBody(b) // the checksum would keep the fuzzer out
		if err != nil {
			if !errors.Is(err, ErrUndecodable) {
				t.Errorf("decodeBody: %v", err)
			}
			return
		}
		if len(ds) == 0 {
			return
		}
		again, err := decodeBody(e.appendBody(nil, ds))
		if err != nil {
			t.Fatalf("its own encoding: %v", err)
		}
		if diff := cmp.Diff(ds, again, sameBytes); diff != "" {
			t.Errorf("round trip (-want +got):\n%s", diff)
		}
	})
}

func BenchmarkCodec(b *testing.B) {
	for _, bench := range []struct {
		name       string
		deliveries int
		size       int
	}{{"1x1KiB", 1, 1 << 10}, {"100x1KiB", 100, 1 << 10}} {
		var ds []core.Delivery
		for range bench.deliveries {
			ds = append(ds, fanOut(event(core.NewEventID(time.Now()), bench.size), 1)...)
		}
		var e Encoder
		b.Run("encode/"+bench.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(bench.deliveries * bench.size))
			for b.Loop() {
				if _, err := e.Encode(ds); err != nil {
					b.Fatal(err)
				}
			}
		})
		frame, err := e.Encode(ds)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("decode/"+bench.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(bench.deliveries * bench.size))
			for b.Loop() {
				if _, err := Decode(frame); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// event returns an event whose body has size bytes.
func event(id string, size int) *core.Event {
	body := []byte(fmt.Sprintf(`{"type":"call.received","timestamp":"2026-11-24T07:00:00.000Z","data":{"id":%q,"n":1.0}}`, id))
	for i := len(body); i < size; i++ {
		body = append(body, "0123456789abcdef"[i*7%16])
	}
	return &core.Event{ID: id, Type: "call.received", Body: body, AcceptedAt: at(1_795_503_600_123)}
}

// fanOut returns n deliveries of an event.
func fanOut(e *core.Event, n int) []core.Delivery {
	ds := make([]core.Delivery, n)
	for i := range ds {
		ds[i] = core.Delivery{
			ID: core.NewDeliveryID(e.AcceptedAt), Organization: "acme", Endpoint: core.NewEndpointID(), Event: e,
		}
	}
	return ds
}
