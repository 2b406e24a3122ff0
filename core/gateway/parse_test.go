package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/publish"
)

var testTime = time.Date(2026, 4, 27, 17, 42, 17, 859e6, time.UTC)

func testRules() *eventRules {
	rules := &eventRules{types: make(map[string]string), maxPayload: 1000}
	for _, t := range core.DefaultEventTypes() {
		rules.types[t] = t
	}
	return rules
}

func parse(body string) publish.Item {
	var s scanner
	return s.parseEvent([]byte(body), testRules(), testTime)
}

// What is accepted, and the exact bytes that receivers get for it.
func TestParseEvent(t *testing.T) {
	t.Parallel()
	const now = `"2026-04-27T17:42:17.859Z"`
	body := func(timestamp, data string) string {
		return `{"type":"call.qualified","timestamp":` + timestamp + `,"data":` + data + `}`
	}
	deepest := strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1)
	tests := []struct {
		name, json, id, want string
	}{
		{"minimal", `{"type":"call.qualified","data":{}}`, "", body(now, `{}`)},
		{"any order and spaces", " {\n\"data\" : [ 1 , 2 ] ,\t\"type\" : \"call.qualified\" } \r\n", "", body(now, `[ 1 , 2 ]`)},
		{"id", `{"id":"A-z_9","type":"call.qualified","data":0}`, "A-z_9", body(now, `0`)},
		{"longest id", `{"id":"` + strings.Repeat("i", 64) + `","type":"call.qualified","data":0}`, strings.Repeat("i", 64), body(now, `0`)},
		{"given time", `{"timestamp":"2020-02-29T23:59:59.123456+02:00","type":"call.qualified","data":0}`, "", body(`"2020-02-29T23:59:59.123456+02:00"`, `0`)},
		{"escaped time is kept", `{"timestamp":"2020-02-29T00:00:00\u005a","type":"call.qualified","data":0}`, "", body(`"2020-02-29T00:00:00\u005a"`, `0`)},
		{"escaped names and type", `{"\u0074ype":"call\u002equalified","d\u0061ta":1}`, "", body(now, `1`)},
		{"numbers are kept", `{"type":"call.qualified","data":[1.0,1e400,-0,100000000000000000000,0.1000]}`, "", body(now, `[1.0,1e400,-0,100000000000000000000,0.1000]`)},
		{"duplicates in data are kept", `{"type":"call.qualified","data":{"a":1,"a":2}}`, "", body(now, `{"a":1,"a":2}`)},
		{"escapes are kept", `{"type":"call.qualified","data":"\u003c\/\ud83d\ude00\ud800"}`, "", body(now, `"\u003c\/\ud83d\ude00\ud800"`)},
		{"text is kept", `{"type":"call.qualified","data":"<é&\U0001F600>"}`, "", body(now, `"<é&\U0001F600>"`)},
		{"null", `{"type":"call.qualified","data":null}`, "", body(now, `null`)},
		{"false", `{"type":"call.qualified","data":false}`, "", body(now, `false`)},
		{"empty text", `{"type":"call.qualified","data":""}`, "", body(now, `""`)},
		{"deepest", `{"type":"call.qualified","data":` + deepest + `}`, "", body(now, deepest)},
		{"largest", `{"type":"call.qualified","data":"` + strings.Repeat("x", 998) + `"}`, "", body(now, `"`+strings.Repeat("x", 998)+`"`)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := strings.ReplaceAll(tt.json, `\U0001F600`, "\U0001F600")
			want := strings.ReplaceAll(tt.want, `\U0001F600`, "\U0001F600")
			item := parse(in)
			if item.Err != nil {
				t.Fatalf("refused: %v", item.Err)
			}
			if string(item.Body) != want || item.ID != tt.id || item.Type != "call.qualified" {
				t.Errorf("item %q %q %s\nwant %q %s", item.ID, item.Type, item.Body, tt.id, want)
			}
			if !json.Valid(item.Body) {
				t.Error("what receivers get is not JSON")
			}
		})
	}
}

func TestParseMaxAge(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{`"1s"`: time.Second, `"1h30m"`: 90 * time.Minute, `"7\u0032\u0030h"`: 720 * time.Hour} {
		item := parse(`{"type":"call.qualified","max_age":` + text + `,"data":0}`)
		if item.Err != nil || item.MaxAge != want {
			t.Errorf("%s: %v, %v, want %v", text, item.MaxAge, item.Err, want)
		}
		if strings.Contains(string(item.Body), "max_age") {
			t.Errorf("receivers get %s", item.Body)
		}
	}
}

// badEvents are events of every kind that is refused; used alone and in batches.
var badEvents = []struct {
	name, json string
	code       core.Code
	fields     []string
}{
	{"empty", ``, core.CodeInvalidJSON, nil},
	{"only space", ` `, core.CodeInvalidJSON, nil},
	{"truncated", `{"type":"call.qualified","data":{}`, core.CodeInvalidJSON, nil},
	{"trailing comma", `{"type":"call.qualified","data":{},}`, core.CodeInvalidJSON, nil},
	{"single quotes", `{'type':'call.qualified','data':{}}`, core.CodeInvalidJSON, nil},
	{"bad number in data", `{"type":"call.qualified","data":01}`, core.CodeInvalidJSON, nil},
	{"syntax before rules", `{"type":"nope","data":}`, core.CodeInvalidJSON, nil},
	{"second document", `{"type":"call.qualified","data":{}}{}`, core.CodeInvalidJSON, nil},
	{"garbage after", `{"type":"call.qualified","data":{}} x`, core.CodeInvalidJSON, nil},
	{"invalid UTF-8 in data", "{\"type\":\"call.qualified\",\"data\":\"\xff\"}", core.CodeInvalidJSON, nil},
	{"truncated UTF-8", "{\"type\":\"call.qualified\",\"data\":\"\xe2\x82\"}", core.CodeInvalidJSON, nil},
	{"encoded surrogate", "{\"type\":\"call.qualified\",\"data\":\"\xed\xa0\x80\"}", core.CodeInvalidJSON, nil},
	{"invalid UTF-8 in a name", "{\"type\":\"call.qualified\",\"data\":1,\"\xff\":1}", core.CodeInvalidJSON, nil},
	{"byte order mark", "\ufeff{\"type\":\"call.qualified\",\"data\":1}", core.CodeInvalidJSON, nil},
	{"too deep", `{"type":"call.qualified","data":` + strings.Repeat("[", 128) + strings.Repeat("]", 128) + `}`, core.CodeInvalidJSON, nil},
	{"far too deep", `{"type":"call.qualified","data":` + strings.Repeat("[", 400) + strings.Repeat("]", 400) + `}`, core.CodeInvalidJSON, nil},
	{"an array", `[1]`, core.CodeInvalid, nil},
	{"a string", `"call.qualified"`, core.CodeInvalid, nil},
	{"null", `null`, core.CodeInvalid, nil},
	{"no members", `{}`, core.CodeInvalid, []string{"type", "data"}},
	{"no type", `{"data":{}}`, core.CodeInvalid, []string{"type"}},
	{"no data", `{"type":"call.qualified"}`, core.CodeInvalid, []string{"data"}},
	{"type is a number", `{"type":1,"data":{}}`, core.CodeInvalid, []string{"type"}},
	{"type is null", `{"type":null,"data":{}}`, core.CodeInvalid, []string{"type"}},
	{"type is an object", `{"type":{},"data":{}}`, core.CodeInvalid, []string{"type"}},
	{"unknown type", `{"type":"call.unknown","data":{}}`, core.CodeInvalid, []string{"type"}},
	{"empty type", `{"type":"","data":{}}`, core.CodeInvalid, []string{"type"}},
	{"type in another case", `{"type":"Call.Qualified","data":{}}`, core.CodeInvalid, []string{"type"}},
	{"name in another case", `{"Type":"call.qualified","data":{}}`, core.CodeInvalid, []string{"Type", "type"}},
	{"repeated type", `{"type":"call.qualified","type":"call.qualified","data":{}}`, core.CodeInvalid, []string{"type"}},
	{"repeated data", `{"type":"call.qualified","data":1,"data":1}`, core.CodeInvalid, []string{"data"}},
	{"repetition in disguise", `{"type":"call.qualified","data":1,"d\u0061ta":1}`, core.CodeInvalid, []string{"data"}},
	{"unknown field", `{"type":"call.qualified","data":{},"extra":1}`, core.CodeInvalid, []string{"extra"}},
	{"id is a number", `{"type":"call.qualified","data":{},"id":7}`, core.CodeInvalid, []string{"id"}},
	{"id is null", `{"type":"call.qualified","data":{},"id":null}`, core.CodeInvalid, []string{"id"}},
	{"empty id", `{"type":"call.qualified","data":{},"id":""}`, core.CodeInvalid, []string{"id"}},
	{"id with a full stop", `{"type":"call.qualified","data":{},"id":"a.b"}`, core.CodeInvalid, []string{"id"}},
	{"long id", `{"type":"call.qualified","data":{},"id":"` + strings.Repeat("i", 65) + `"}`, core.CodeInvalid, []string{"id"}},
	{"id beyond ASCII", `{"type":"call.qualified","data":{},"id":"é"}`, core.CodeInvalid, []string{"id"}},
	{"timestamp is a number", `{"type":"call.qualified","data":{},"timestamp":1777311738}`, core.CodeInvalid, []string{"timestamp"}},
	{"timestamp is null", `{"type":"call.qualified","data":{},"timestamp":null}`, core.CodeInvalid, []string{"timestamp"}},
	{"timestamp without zone", `{"type":"call.qualified","data":{},"timestamp":"2026-04-27T17:42:17"}`, core.CodeInvalid, []string{"timestamp"}},
	{"timestamp is a date", `{"type":"call.qualified","data":{},"timestamp":"2026-04-27"}`, core.CodeInvalid, []string{"timestamp"}},
	{"no such day", `{"type":"call.qualified","data":{},"timestamp":"2026-02-30T00:00:00Z"}`, core.CodeInvalid, []string{"timestamp"}},
	{"max_age is a number", `{"type":"call.qualified","data":{},"max_age":60}`, core.CodeInvalid, []string{"max_age"}},
	{"max_age is null", `{"type":"call.qualified","data":{},"max_age":null}`, core.CodeInvalid, []string{"max_age"}},
	{"max_age without unit", `{"type":"call.qualified","data":{},"max_age":"60"}`, core.CodeInvalid, []string{"max_age"}},
	{"max_age too short", `{"type":"call.qualified","data":{},"max_age":"999ms"}`, core.CodeInvalid, []string{"max_age"}},
	{"max_age too long", `{"type":"call.qualified","data":{},"max_age":"721h"}`, core.CodeInvalid, []string{"max_age"}},
	{"repeated max_age", `{"type":"call.qualified","data":{},"max_age":"1h","max_age":"1h"}`, core.CodeInvalid, []string{"max_age"}},
	{"everything", `{"type":1,"id":".","timestamp":"","x":1,"max_age":""}`, core.CodeInvalid, []string{"x", "type", "id", "timestamp", "max_age", "data"}},
	{"too large", `{"type":"call.qualified","data":"` + strings.Repeat("x", 999) + `"}`, core.CodeTooLarge, nil},
	{"size before rules", `{"type":"nope","data":"` + strings.Repeat("x", 999) + `"}`, core.CodeTooLarge, nil},
}

func fieldsOf(e *core.Error) []string {
	var fields []string
	for _, f := range e.Fields {
		fields = append(fields, f.Field)
	}
	return fields
}

func TestParseBadEvent(t *testing.T) {
	t.Parallel()
	for _, tt := range badEvents {
		item := parse(tt.json)
		if item.Err == nil {
			t.Errorf("%s: accepted as %s", tt.name, item.Body)
			continue
		}
		if item.Err.Code != tt.code || !slices.Equal(fieldsOf(item.Err), tt.fields) {
			t.Errorf("%s: %v about %q, want %s about %q", tt.name, item.Err, fieldsOf(item.Err), tt.code, tt.fields)
		}
		if tt.code == core.CodeInvalidJSON && !strings.Contains(item.Err.Detail, "offset") {
			t.Errorf("%s: %q names no offset", tt.name, item.Err.Detail)
		}
	}
}

// TestLinesForABatch: who sends lines as JSON is told what they need.
func TestLinesForABatch(t *testing.T) {
	t.Parallel()
	const line = `{"type":"call.qualified","data":1}`
	for body, hint := range map[string]bool{line + "\n" + line: true, line: true, `"` + line: false, "[" + line: false} {
		s := new(scanner)
		_, err := s.parseArray([]byte(body), testRules(), testTime)
		if err == nil || strings.Contains(err.Detail, "application/x-ndjson") != hint {
			t.Errorf("%s: %v, hint wanted: %t", body, err, hint)
		}
	}
}

func TestOffsets(t *testing.T) {
	t.Parallel()
	for body, detail := range map[string]string{
		`{"type":"call.qualified","data":tru}`:                                 "malformed JSON at offset 32: expected a value",
		`{"type":"call.qualified" "data":1}`:                                   "malformed JSON at offset 25: expected ',' or '}'",
		`{"type":"call.qualified","data":1}]`:                                  "malformed JSON at offset 34: expected the end: only one JSON value is allowed",
		"  {\"type\":\"\xff\",\"data\":1}":                                     "malformed JSON at offset 11: not valid UTF-8",
		`{"type":"call.qualified","data":"a\q"`:                                "malformed JSON at offset 34: invalid escape in a string",
		`{"data":` + strings.Repeat("[", 128) + strings.Repeat("]", 128) + `}`: "JSON nested deeper than 128 levels at offset 135",
	} {
		if item := parse(body); item.Err == nil || item.Err.Detail != detail {
			t.Errorf("%.60s: %v, want %s", body, item.Err, detail)
		}
	}
}

// A long or hostile field name is repeated only in part.
func TestUnknownFieldNames(t *testing.T) {
	t.Parallel()
	item := parse(`{"type":"call.qualified","data":1,"` + strings.Repeat("é", 100) + `":1}`)
	if want := strings.Repeat("é", 32) + "…"; item.Err == nil || item.Err.Fields[0].Field != want {
		t.Errorf("error %v", item.Err)
	}
	var many strings.Builder
	for i := range 100 {
		fmt.Fprintf(&many, `"f%d":1,`, i)
	}
	item = parse(`{` + many.String() + `"type":"call.qualified","data":1}`)
	if item.Err == nil || len(item.Err.Fields) != maxFieldErrors {
		t.Errorf("%d fields are listed, want %d", len(item.Err.Fields), maxFieldErrors)
	}
}

// An event with an id is known again by its own bytes, alone or in a batch.
func TestHashOfEvent(t *testing.T) {
	t.Parallel()
	const event = `{"id":"x","type":"call.qualified","data":{"a": 1}}`
	var s scanner
	rules := testRules()
	first := s.parseEvent([]byte(event), rules, testTime).Hash
	if first == [32]byte{} {
		t.Fatal("no hash")
	}
	array, err := s.parseArray([]byte(` [ 1, `+event+` ] `), rules, testTime)
	if err != nil {
		t.Fatal(err)
	}
	lines, _ := s.parseLines([]byte("\n  "+event+"\r\n"), rules, testTime)
	padded := s.parseEvent([]byte("\n "+event+"\n"), rules, testTime)
	for name, hash := range map[string][32]byte{"array": array[1].Hash, "lines": lines[0].Hash, "padded": padded.Hash} {
		if hash != first {
			t.Errorf("%s: another hash", name)
		}
	}
	if s.parseEvent([]byte(strings.Replace(event, `: 1`, `:1`, 1)), rules, testTime).Hash == first {
		t.Error("other bytes, same hash")
	}
}

// itemCodes returns for each item its code or "".
func itemCodes(items []publish.Item) []core.Code {
	var codes []core.Code
	for _, item := range items {
		var code core.Code
		if item.Err != nil {
			code = item.Err.Code
		}
		codes = append(codes, code)
	}
	return codes
}

func TestParseArray(t *testing.T) {
	t.Parallel()
	const good = `{"type":"call.qualified","data":1}`
	tests := []struct {
		name, json string
		code       core.Code   // of the whole
		items      []core.Code // "" = good
	}{
		{"empty", `[]`, "", nil},
		{"spaces", " [\n" + good + " ,\t" + good + "] ", "", []core.Code{"", ""}},
		{"bad among good", `[` + good + `,{"type":"x","data":1},7,` + good + `]`, "", []core.Code{"", core.CodeInvalid, core.CodeInvalid, ""}},
		{"too deep among good", `[` + good + `,{"data":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `},` + good + `]`, "", []core.Code{"", core.CodeInvalidJSON, ""}},
		{"bad UTF-8 among good", `[` + good + ",{\"type\":\"\xff\",\"data\":1}," + good + `]`, "", []core.Code{"", core.CodeInvalidJSON, ""}},
		{"large among good", `[` + good + `,{"type":"call.qualified","data":"` + strings.Repeat("x", 999) + `"},` + good + `]`, "", []core.Code{"", core.CodeTooLarge, ""}},
		{"the array is not counted as a level", `[{"type":"call.qualified","data":` + strings.Repeat("[", 127) + strings.Repeat("]", 127) + `}]`, "", []core.Code{""}},
		{"empty body", ``, core.CodeInvalidJSON, nil},
		{"not closed", `[` + good, core.CodeInvalidJSON, nil},
		{"trailing comma", `[` + good + `,]`, core.CodeInvalidJSON, nil},
		{"no comma", `[` + good + good + `]`, core.CodeInvalidJSON, nil},
		{"broken item", `[` + good + `,{"type"}]`, core.CodeInvalidJSON, nil},
		{"broken scalar", `[nul]`, core.CodeInvalidJSON, nil},
		{"more after it", `[` + good + `] 1`, core.CodeInvalidJSON, nil},
		{"an object", good, core.CodeInvalid, nil},
		{"a number", `1`, core.CodeInvalid, nil},
		{"a broken object", `{`, core.CodeInvalidJSON, nil},
	}
	for _, tt := range tests {
		var s scanner
		items, err := s.parseArray([]byte(tt.json), testRules(), testTime)
		var code core.Code
		if err != nil {
			code = err.Code
		}
		if code != tt.code || !slices.Equal(itemCodes(items), tt.items) {
			t.Errorf("%s: %v with items %q, want %q with %q", tt.name, err, itemCodes(items), tt.code, tt.items)
		}
	}
}

func TestParseLines(t *testing.T) {
	t.Parallel()
	const good = `{"type":"call.qualified","data":1}`
	body := "\n" + good + "\r\n  \n{\"type\":\n[1]\n" + good + good + "\n" + good
	var s scanner
	items, err := s.parseLines([]byte(body), testRules(), testTime)
	if err != nil {
		t.Fatal(err)
	}
	want := []core.Code{"", core.CodeInvalidJSON, core.CodeInvalid, core.CodeInvalidJSON, ""}
	if diff := cmp.Diff(want, itemCodes(items)); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
	if items, err := s.parseLines(nil, testRules(), testTime); err != nil || len(items) != 0 {
		t.Errorf("empty body: %d items, %v", len(items), err)
	}
}

func TestBatchIsBounded(t *testing.T) {
	t.Parallel()
	const good = `{"type":"call.qualified","data":1}`
	for _, n := range []int{maxBatchEvents, maxBatchEvents + 1} {
		events := slices.Repeat([]string{good}, n)
		var s scanner
		items, err := s.parseArray([]byte(`[`+strings.Join(events, ",")+`]`), testRules(), testTime)
		lines, lineErr := s.parseLines([]byte(strings.Join(events, "\n")), testRules(), testTime)
		if n == maxBatchEvents {
			if err != nil || lineErr != nil || len(items) != n || len(lines) != n {
				t.Errorf("%d events: %v, %v", n, err, lineErr)
			}
		} else if core.CodeOf(err) != core.CodeTooLarge || core.CodeOf(lineErr) != core.CodeTooLarge {
			t.Errorf("%d events: %v, %v", n, err, lineErr)
		}
	}
}

// Whatever is accepted is frozen into JSON that says what was sent.
func FuzzParseEvent(f *testing.F) {
	for _, b := range badEvents {
		f.Add([]byte(b.json))
	}
	f.Add([]byte(`{"id":"a","timestamp":"2020-01-01T00:00:00Z","type":"lead.created","data":{"a":[1.0,"\u00e9"]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var s scanner
		item := s.parseEvent(body, testRules(), testTime)
		lines, err := s.parseLines(body, testRules(), testTime)
		if err != nil && err.Code != core.CodeTooLarge {
			t.Fatalf("lines: %v", err)
		}
		if !bytes.ContainsRune(bytes.Trim(body, jsonSpace), '\n') && len(lines) == 1 && (lines[0].Err == nil) != (item.Err == nil) {
			t.Fatalf("alone: %v, as a line: %v", item.Err, lines[0].Err)
		}
		if item.Err != nil {
			if _, _, ok := statusOf(item.Err.Code); !ok || item.Err.Detail == "" {
				t.Fatalf("error %+v", item.Err)
			}
			return
		}
		var sent, frozen struct {
			Type, ID, Timestamp string
			Data                json.RawMessage
		}
		if err := json.Unmarshal(body, &sent); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		if err := json.Unmarshal(item.Body, &frozen); err != nil {
			t.Fatalf("frozen %q: %v", item.Body, err)
		}
		if sent.Type != frozen.Type || sent.Type != item.Type || sent.ID != item.ID || !bytes.Equal(sent.Data, frozen.Data) {
			t.Fatalf("sent %q, frozen %q", body, item.Body)
		}
		if sent.Timestamp != "" && sent.Timestamp != frozen.Timestamp {
			t.Fatalf("timestamp %q became %q", sent.Timestamp, frozen.Timestamp)
		}
	})
}
