package core

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

const (
	traceText = "0af7651916cd43dd8448eb211c80319c"
	spanText  = "b7ad6b7169203331"
	parent    = "00-" + traceText + "-" + spanText + "-01"
)

// The cases are those of the W3C's own test suite, where it has them.
func TestParseTraceParent(t *testing.T) {
	t.Parallel()
	valid := map[string]string{ // header -> what is sent on
		parent: parent,
		"00-" + traceText + "-" + spanText + "-00":           "00-" + traceText + "-" + spanText + "-00",
		"00-" + traceText + "-" + spanText + "-ff":           "00-" + traceText + "-" + spanText + "-03",
		"cc-" + traceText + "-" + spanText + "-01":           parent,
		"cc-" + traceText + "-" + spanText + "-01-what-else": parent,
		"cc-" + traceText + "-" + spanText + "-01-":          parent,
	}
	for header, want := range valid {
		got, ok := ParseTraceParent([]byte(header))
		if !ok || string(got.AppendParent(nil)) != want || got.ID() != traceText || got.Sampled() != (want != "00-"+traceText+"-"+spanText+"-00") {
			t.Errorf("%q: %+v, %t; want %q", header, got, ok, want)
		}
	}
	invalid := []string{
		"", "00", parent[:54], parent + "-x", parent + "x", strings.ToUpper(parent), " " + parent,
		"ff-" + traceText + "-" + spanText + "-01", "0x-" + traceText + "-" + spanText + "-01",
		"cc-" + traceText + "-" + spanText + "-01.what",
		"00-" + strings.Repeat("0", 32) + "-" + spanText + "-01", "00-" + traceText + "-" + strings.Repeat("0", 16) + "-01",
		"00-" + traceText[:31] + "g-" + spanText + "-01", "00-" + traceText + "-" + spanText[:15] + ".-01", "00-" + traceText + "-" + spanText + "-0G",
		"00_" + traceText + "-" + spanText + "-01", "00-" + traceText + "_" + spanText + "-01", "00-" + traceText + "-" + spanText + "_01",
		"00-" + strings.ToUpper(traceText) + "-" + spanText + "-01",
	}
	for _, header := range invalid {
		if got, ok := ParseTraceParent([]byte(header)); ok || got != (TraceContext{}) {
			t.Errorf("%q is accepted as %+v", header, got)
		}
	}
}

func TestParseTraceState(t *testing.T) {
	t.Parallel()
	entry := func(i, size int) string { return fmt.Sprintf("k%02d=%s", i, strings.Repeat("v", size-4)) }
	list := func(n, size int) string {
		var entries []string
		for i := range n {
			entries = append(entries, entry(i, size))
		}
		return strings.Join(entries, ",")
	}
	tests := []struct {
		name    string
		headers []string
		want    string
	}{
		{name: "none"},
		{name: "one", headers: []string{"rojo=00f067aa0ba902b7"}, want: "rojo=00f067aa0ba902b7"},
		{name: "two headers are one list", headers: []string{"a=1,b=2", "c=3"}, want: "a=1,b=2,c=3"},
		{name: "spaces and gaps", headers: []string{" a=1 ,\t,, b=2\t"}, want: "a=1,b=2"},
		{name: "every character of a key", headers: []string{"0t_-*/@x=1"}, want: "0t_-*/@x=1"},
		{name: "32 entries", headers: []string{list(32, 6)}, want: list(32, 6)},
		{name: "33 entries", headers: []string{list(33, 6)}},
		{name: "512 bytes", headers: []string{list(27, 18)}, want: list(27, 18)},
		{name: "too long by the last entry", headers: []string{list(28, 18)}, want: list(27, 18)},
		{name: "a wide entry goes first", headers: []string{entry(99, 200) + "," + list(27, 18)}, want: list(27, 18)},
		{name: "a wide entry alone stays", headers: []string{entry(99, 200)}, want: entry(99, 200)},
		{name: "no value", headers: []string{"a="}},
		{name: "no key", headers: []string{"=1"}},
		{name: "no equals sign", headers: []string{"a"}},
		{name: "two equals signs", headers: []string{"a=1=2"}},
		{name: "upper-case key", headers: []string{"A=1"}},
		{name: "key begins with a sign", headers: []string{"_a=1"}},
		{name: "key given twice", headers: []string{"a=1", "a=2"}},
		{name: "key too long", headers: []string{strings.Repeat("k", 257) + "=1"}},
		{name: "value too long", headers: []string{"a=" + strings.Repeat("v", 257)}},
		{name: "control character", headers: []string{"a=1\r\nx-evil: 1"}},
		{name: "not ASCII", headers: []string{"a=é"}},
		{name: "one bad entry spoils all", headers: []string{"a=1,B=2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var headers [][]byte
			for _, h := range tt.headers {
				headers = append(headers, []byte(h))
			}
			if got := ParseTraceState(headers); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// FuzzTraceContext: what is accepted can be sent on, and stays the same then.
func FuzzTraceContext(f *testing.F) {
	f.Add([]byte(parent), []byte("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"))
	f.Add([]byte("cc-"+traceText+"-"+spanText+"-01-x"), []byte("a=1,,b = 2"))
	f.Fuzz(func(t *testing.T, header, state []byte) {
		if got, ok := ParseTraceParent(header); ok {
			sent := got.AppendParent(nil)
			again, ok := ParseTraceParent(sent)
			if !ok || again != got || len(sent) != traceParentLength {
				t.Errorf("%q is sent on as %q, which is read as %+v", header, sent, again)
			}
		}
		kept := ParseTraceState([][]byte{state})
		if len(kept) > MaxTraceState || bytes.ContainsAny([]byte(kept), "\r\n\x00") {
			t.Errorf("%q is sent on as %q", state, kept)
		}
		if again := ParseTraceState([][]byte{[]byte(kept)}); again != kept {
			t.Errorf("%q is read as %q", kept, again)
		}
	})
}
