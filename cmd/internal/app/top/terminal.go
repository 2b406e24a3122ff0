package top

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"
)

// What a terminal is told. The alternate screen leaves what stood there before
// as it was.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	toTop       = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
	bold        = "\x1b[1m"
	plain       = "\x1b[m"
)

// Terminal is a screen that is drawn over and over, and its keys. It has to be
// closed, or the shell finds it changed.
type Terminal struct {
	in, out *os.File
	before  *term.State // of in; nil: its keys are not read
}

// OpenTerminal takes over the terminal that out is. Keys are read where in is a
// terminal too and the system can tell whether one was pressed; elsewhere only
// Ctrl-C ends.
func OpenTerminal(in, out *os.File) (*Terminal, error) {
	t := &Terminal{in: in, out: out}
	if canPoll && term.IsTerminal(int(in.Fd())) {
		before, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return nil, fmt.Errorf("take over the keyboard: %w", err)
		}
		t.before = before
	}
	if _, err := out.WriteString(enterScreen); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// IsTerminal reports whether a file is a terminal.
func IsTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// Close gives the terminal back as it was.
func (t *Terminal) Close() error {
	_, err := t.out.WriteString(leaveScreen)
	if t.before != nil {
		err = errors.Join(err, term.Restore(int(t.in.Fd()), t.before))
	}
	return err
}

// size returns columns and lines; those of the first terminals where the system
// does not tell.
func (t *Terminal) size() (width, height int) {
	width, height, err := term.GetSize(int(t.out.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		return 80, 24
	}
	return width, height
}

// draw writes lines over the last screen in one write, so that it does not
// flicker.
func (t *Terminal) draw(lines []string) error {
	var b strings.Builder
	b.WriteString(toTop)
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n") // in raw mode a line feed alone stays in its column
		} else {
			line = bold + line + plain
		}
		b.WriteString(line + clearLine)
	}
	b.WriteString(clearBelow)
	_, err := t.out.WriteString(b.String())
	return err
}

// ends reports whether one of the keys ends the view. In raw mode Ctrl-C is a
// key like any other.
func ends(keys []byte) bool {
	const ctrlC, ctrlD = 3, 4
	for _, key := range keys {
		switch key {
		case 'q', 'Q', ctrlC, ctrlD:
			return true
		}
	}
	return false
}
