package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// WriteJSON writes the report for machines.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteText writes the report for people: a line for each check, and one more
// for what to do.
func (r *Report) WriteText(w io.Writer) error {
	words := map[Status]string{StatusOK: "ok", StatusSkipped: "-", StatusWarning: "WARN", StatusError: "ERROR"}
	var b strings.Builder
	for _, f := range r.Checks {
		fmt.Fprintf(&b, "%-5s  %-20s %s\n", words[f.Status], f.Check, printable(f.Detail))
		if f.Advice != "" {
			fmt.Fprintf(&b, "%-5s  %-20s → %s\n", "", "", printable(f.Advice))
		}
	}
	fmt.Fprintf(&b, "\n%s, %s, %s\n", count(r.Errors, "error"), count(r.Warnings, "warning"), count(len(r.Checks), "check"))
	_, err := io.WriteString(w, b.String())
	return err
}

// printable keeps what comes from outside from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
