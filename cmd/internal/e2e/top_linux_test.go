package e2e

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/term"

	"github.com/sealpost/sealpost/cmd/internal/app/ptytest"
)

// TestTopOnATerminal runs the program itself on a terminal: it draws over its
// last screen, and gives the terminal back however it ends.
func TestTopOnATerminal(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	for name, end := range map[string]func(*ptytest.Screen, *exec.Cmd) error{
		"q":       func(screen *ptytest.Screen, _ *exec.Cmd) error { screen.Press("q"); return nil },
		"SIGTERM": func(_ *ptytest.Screen, cmd *exec.Cmd) error { return cmd.Process.Signal(syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			screen := ptytest.New(t, 100, 30)
			before, err := term.GetState(int(screen.Terminal.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(binary("gateway"), append([]string{"top"}, s.adminFlags()...)...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = screen.Terminal, screen.Terminal, screen.Terminal
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			screen.Await("three screens with both programs", func(text string) bool {
				return strings.Count(text, "\x1b[H") >= 3 && strings.Contains(text, "gateways 1/1  senders 1/1")
			})
			if err := end(screen, cmd); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("it ends with %v", err)
			}
			screen.Await("the old screen", func(text string) bool {
				return strings.HasPrefix(text, "\x1b[?1049h") && strings.HasSuffix(text, "\x1b[?25h\x1b[?1049l")
			})
			if after, err := term.GetState(int(screen.Terminal.Fd())); err != nil || *after != *before {
				t.Errorf("the terminal is left changed: %v", err)
			}
		})
	}
}
