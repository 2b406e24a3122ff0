package lab

import (
	"os"
	"strings"
)

// maxLog is where a program's log file is put aside, in bytes. The one that was put
// aside before is gone then, so that a program that runs for hours takes twice as
// much at most.
const maxLog = 32 << 20

// logFile is a file that grows to limit: then it becomes <name>.old.log, and a fresh
// one is begun.
type logFile struct {
	path  string
	limit int64
	file  *os.File
	size  int64
}

// openLog opens a log to add to it.
func openLog(path string, limit int64) (*logFile, error) {
	l := &logFile{path: path, limit: limit}
	return l, l.open()
}

func (l *logFile) open() error {
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return err
	}
	l.file, l.size = file, info.Size()
	return nil
}

func (l *logFile) Write(p []byte) (int, error) {
	if l.size > 0 && l.size+int64(len(p)) > l.limit {
		l.file.Close()
		if err := os.Rename(l.path, strings.TrimSuffix(l.path, ".log")+".old.log"); err != nil {
			return 0, err
		}
		if err := l.open(); err != nil {
			return 0, err
		}
	}
	n, err := l.file.Write(p)
	l.size += int64(n)
	return n, err
}

func (l *logFile) Close() error { return l.file.Close() }
