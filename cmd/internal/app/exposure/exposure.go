// Package exposure tells who beside its owner may get at a file of secrets.
package exposure

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Degree is how far a file is exposed.
type Degree int

// The degrees, from harmless to bad.
const (
	Private Degree = iota // its owner's
	Group                 // the owner's group may read or change it
	Open                  // every user of the machine may open or replace it
)

// maxFolders bounds the folders that are looked at above a file.
const maxFolders = 64

// Of returns how far a file is exposed and, unless it is private, by what. Access
// rights are not judged on Windows.
func Of(path string) (Degree, string, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return Private, "", err
	case runtime.GOOS == "windows":
		return Private, "", nil
	}
	mode := info.Mode().Perm()
	if mode&0o007 != 0 {
		return Open, fmt.Sprintf("every user of this machine may open it (mode %04o)", mode), nil
	}
	folder, err := openFolder(path)
	switch {
	case err != nil:
		return Private, "", err
	case folder != "":
		return Open, fmt.Sprintf("every user of this machine may put another one in its place: the folder %s is open", folder), nil
	case mode&0o020 != 0:
		return Group, fmt.Sprintf("its group may change it (mode %04o)", mode), nil
	case mode&0o040 != 0:
		return Group, fmt.Sprintf("its group may read it (mode %04o)", mode), nil
	}
	return Private, "", nil
}

// openFolder returns a folder above the file, by the path given or by that behind
// its links, in which everybody may rename and replace what others own; "" if there
// is none. In one with the sticky bit, as /tmp, nobody may.
func openFolder(path string) (string, error) {
	given, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(given)
	if err != nil {
		return "", err
	}
	for _, at := range []string{given, real} {
		for range maxFolders {
			above := filepath.Dir(at)
			if above == at {
				break
			}
			at = above
			info, err := os.Stat(at)
			if err != nil {
				return "", err
			}
			if mode := info.Mode(); mode.Perm()&0o002 != 0 && mode&os.ModeSticky == 0 {
				return at, nil
			}
		}
	}
	return "", nil
}
