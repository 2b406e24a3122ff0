package app

import (
	"io"
	"slices"
	"testing"
)

func TestUnknownVariables(t *testing.T) {
	t.Parallel()
	got, err := unknownVariables([]string{"PATH=/bin", "SEALPOST_CONCURENCY=3", "SEALPOST_CONCURRENCY=3", "SEALPOST_MAX_PAYLOAD=1MiB", "SEALPOST_X"})
	if want := []string{"SEALPOST_CONCURENCY", "SEALPOST_X"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("unknownVariables = %v, %v; want %v", got, err, want)
	}
}

// A message names the variable of a flag that has one, and invents none.
func TestNameVariable(t *testing.T) {
	t.Parallel()
	parser, err := newParser(Gateway, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	byFlag := variables(parser.Model.Node)
	for message, want := range map[string]string{
		"--max-payload: bad":                        "SEALPOST_MAX_PAYLOAD: --max-payload: bad",
		"--max-payload: bad (SEALPOST_MAX_PAYLOAD)": "--max-payload: bad (SEALPOST_MAX_PAYLOAD)",
		"missing flags: --org=STRING":               "missing flags: --org=STRING",
		"missing flags: --secret=STRING":            "SEALPOST_VERIFY_SECRET: missing flags: --secret=STRING",
		"unknown flag --bogus":                      "unknown flag --bogus",
	} {
		if got := nameVariable(message, byFlag); got != want {
			t.Errorf("nameVariable(%q) = %q, want %q", message, got, want)
		}
	}
}
