// Package ptytest gives tests a terminal to run programs on. Linux only.
package ptytest

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait. It is only reached by a failing test.
const patience = 60 * time.Second

// Screen is the other end of a terminal: what is drawn, and a keyboard.
type Screen struct {
	t        *testing.T
	keyboard *os.File
	Terminal *os.File // what the program gets

	mu   sync.Mutex
	text strings.Builder
	more chan struct{} // closed and replaced when something is drawn
}

// New returns a terminal as wide and high as given, until t ends.
func New(t *testing.T, width, height int) *Screen {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &Screen{t: t, keyboard: keyboard, more: make(chan struct{})}
	number, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if s.Terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	s.Resize(width, height)
	var wg sync.WaitGroup
	wg.Go(s.watch)
	t.Cleanup(func() {
		s.Terminal.Close() // ends watch
		wg.Wait()
		keyboard.Close()
	})
	return s
}

// Resize changes the size of the terminal.
func (s *Screen) Resize(width, height int) {
	s.t.Helper()
	size := &unix.Winsize{Col: uint16(width), Row: uint16(height)}
	if err := unix.IoctlSetWinsize(int(s.keyboard.Fd()), unix.TIOCSWINSZ, size); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Screen) watch() {
	buffer := make([]byte, 64<<10)
	for {
		n, err := s.keyboard.Read(buffer)
		s.mu.Lock()
		s.text.Write(buffer[:n])
		close(s.more)
		s.more = make(chan struct{})
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Drawn returns everything that was written since the start, and a channel that
// is closed when more comes.
func (s *Screen) Drawn() (string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String(), s.more
}

// Await waits until what was drawn is as it should be.
func (s *Screen) Await(what string, ok func(text string) bool) {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		text, more := s.Drawn()
		if ok(text) {
			return
		}
		select {
		case <-more:
		case <-deadline:
			s.t.Fatalf("not within %v: %s; drawn:\n%q", patience, what, text)
		}
	}
}

// Press types keys.
func (s *Screen) Press(keys string) {
	s.t.Helper()
	if _, err := s.keyboard.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}
