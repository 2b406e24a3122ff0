package app

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/core"
)

// root is where the documents are, seen from this package.
const root = "../../.."

// document returns the text of one of the project's documents.
func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// tableRows returns the rows of the table with the given head, cell by cell.
func tableRows(t *testing.T, name, head string) [][]string {
	t.Helper()
	_, rest, ok := strings.Cut(document(t, name), head+"\n")
	if !ok {
		t.Fatalf("%s has no table with the head %s", name, head)
	}
	var rows [][]string
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			break
		}
		if strings.HasPrefix(line, "| ---") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	if len(rows) == 0 {
		t.Fatalf("the table with the head %s in %s is empty", head, name)
	}
	return rows
}

var codeSpan = regexp.MustCompile("`([^`]*)`")

// backquoted returns what stands in code spans.
func backquoted(text string) []string {
	var words []string
	for _, m := range codeSpan.FindAllStringSubmatch(text, -1) {
		words = append(words, m[1])
	}
	return words
}

// The HTTP status of each code, as the contract has it. That the program
// answers so is tested where it answers.
func statuses() map[core.Code]int {
	return map[core.Code]int{
		core.CodeNotFound: 404, core.CodeMethodNotAllowed: 405, core.CodeUnauthorized: 401, core.CodeMissingScope: 403,
		core.CodeTooLarge: 413, core.CodeHeaderTooLarge: 431, core.CodeBadRequest: 400, core.CodeInvalidJSON: 400,
		core.CodeInvalid: 422, core.CodeIdempotencyMismatch: 422, core.CodeInProgress: 409, core.CodeConflict: 409, core.CodePayloadExpired: 409, core.CodeRateLimited: 429,
		core.CodeTimeout: 408, core.CodeUnavailable: 503, core.CodeInternal: 500,
	}
}

// TestErrorCodesAreDocumented compares the closed set of codes with the table.
func TestErrorCodesAreDocumented(t *testing.T) {
	t.Parallel()
	documented := make(map[string]string)
	for _, row := range tableRows(t, "docs/API.md", "| `code` | status | meaning |") {
		documented[strings.Trim(row[0], "`")] = row[1]
		if row[2] == "" {
			t.Errorf("%s has no meaning", row[0])
		}
	}
	want := statuses()
	for _, code := range core.Codes() {
		if got := documented[string(code)]; got != fmt.Sprint(want[code]) {
			t.Errorf("docs/API.md gives %s the status %q, want %d", code, got, want[code])
		}
		delete(documented, string(code))
	}
	for code := range documented {
		t.Errorf("docs/API.md lists the code %s, which does not exist", code)
	}
}

// TestReasonsAreDocumented compares the closed set of reasons with the table.
func TestReasonsAreDocumented(t *testing.T) {
	t.Parallel()
	documented := make(map[string]bool)
	for _, row := range tableRows(t, "docs/API.md", "| `error` | meaning |") {
		for _, reason := range backquoted(row[0]) {
			documented[reason] = true
		}
	}
	for _, reason := range core.Reasons() {
		if !documented[string(reason)] {
			t.Errorf("docs/API.md lacks the error %s", reason)
		}
		delete(documented, string(reason))
	}
	for reason := range documented {
		t.Errorf("docs/API.md lists the error %s, which does not exist", reason)
	}
}

// TestStatusesAndScopesAreDocumented: every status of a delivery is in the API's
// document, and the scopes too.
func TestStatusesAndScopesAreDocumented(t *testing.T) {
	t.Parallel()
	text := document(t, "docs/API.md")
	for _, word := range []string{
		string(core.StatusDelivered), string(core.StatusRetrying), string(core.StatusFailed), string(core.StatusDiscarded),
		string(core.ScopeRead), string(core.ScopeAdmin), string(core.ScopePublish),
	} {
		if !strings.Contains(text, "`"+word+"`") {
			t.Errorf("docs/API.md lacks `%s`", word)
		}
	}
}

var (
	link     = regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	fence    = regexp.MustCompile("(?s)```.*?```")
	external = regexp.MustCompile(`^[a-z]+:`)
)

// TestLinksLeadSomewhere follows the links between the project's documents.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names, filepath.Join(root, "README.md"), filepath.Join(root, "CHANGELOG.md")) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(string(text), ""), -1) {
			if external.MatchString(m[1]) {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", filepath.Base(name), m[1], err)
			}
		}
	}
}
