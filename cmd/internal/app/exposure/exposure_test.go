//go:build unix

package exposure

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name         string
		file, folder os.FileMode
		link         bool // the file is named by a link from a private folder
		want         Degree
		says         string
	}{
		{"private", 0o600, 0o700, false, Private, ""},
		{"read only", 0o400, 0o755, false, Private, ""},
		{"linked", 0o600, 0o700, true, Private, ""},
		{"group reads", 0o640, 0o700, false, Group, "may read it (mode 0640)"},
		{"group writes", 0o660, 0o700, false, Group, "may change it (mode 0660)"},
		{"others read", 0o604, 0o700, false, Open, "may open it (mode 0604)"},
		{"others write", 0o602, 0o700, false, Open, "mode 0602"},
		{"linked and readable", 0o644, 0o700, true, Open, "mode 0644"},
		{"replaceable", 0o600, 0o777, false, Open, "another one in its place"},
		{"replaceable behind a link", 0o600, 0o777, true, Open, "another one in its place"},
		{"sticky folder", 0o600, os.ModeSticky | 0o777, false, Private, ""},
		{"sticky folder, readable", 0o644, os.ModeSticky | 0o777, false, Open, "mode 0644"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "folder")
			deep := filepath.Join(dir, "private")
			path := filepath.Join(deep, "keys")
			if err := errors.Join(os.MkdirAll(deep, 0o700), os.WriteFile(path, nil, 0o600), os.Chmod(path, tt.file), os.Chmod(dir, tt.folder)); err != nil {
				t.Fatal(err)
			}
			if tt.link {
				link := filepath.Join(t.TempDir(), "link")
				if err := os.Symlink(path, link); err != nil {
					t.Fatal(err)
				}
				path = link
			}
			got, says, err := Of(path)
			if err != nil || got != tt.want || !strings.Contains(says, tt.says) || (says == "") != (got == Private) {
				t.Errorf("%d, %q, %v; want %d, %q", got, says, err, tt.want, tt.says)
			}
		})
	}
	if _, _, err := Of(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
