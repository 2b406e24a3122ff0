package lab

import (
	"os"
	"path/filepath"
	"testing"
)

// A log takes twice its limit at most, and keeps the newest lines, over restarts too.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "gateway.log")
	for _, line := range []string{"one\n", "two\n", "three\n", "four\n"} {
		l, err := openLog(path, 10)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"gateway.old.log": "three\n", "gateway.log": "four\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v; want %q", name, got, err, want)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 2 {
		t.Errorf("%d files, %v; want 2", len(files), err)
	}
}
