package top

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/term"

	"github.com/sealpost/sealpost/cmd/internal/app/ptytest"
)

// patience bounds every wait of a test. It is only reached by a failing one.
const patience = 30 * time.Second

// TestTerminal runs the view on a terminal and ends it in each way.
func TestTerminal(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *ptytest.Screen, cancel context.CancelFunc){
		"q":      func(s *ptytest.Screen, _ context.CancelFunc) { s.Press("q") },
		"Ctrl-C": func(s *ptytest.Screen, _ context.CancelFunc) { s.Press("x\x03") },
		"signal": func(_ *ptytest.Screen, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := ptytest.New(t, 40, 10)
			before, err := term.GetState(int(s.Terminal.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			p := newProcess(t, nil)
			o := options(t, shared.Database(t).Client(t))
			o.Gateways, o.Senders, o.Out = []string{p.address}, []string{p.address}, io.Discard
			if o.Terminal, err = OpenTerminal(s.Terminal, s.Terminal); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- Run(ctx, o) }()
			s.Await("two screens", func(text string) bool { return strings.Count(text, toTop) >= 2 })
			text, _ := s.Drawn()
			if !strings.HasPrefix(text, enterScreen+toTop+bold+"sealpost top") {
				t.Errorf("the screen begins with %q", text)
			}
			for _, line := range strings.Split(text[:strings.LastIndex(text, clearBelow)], clearLine) {
				if n := len([]rune(strip(line))); n > 40 {
					t.Errorf("a line of %d characters on a terminal of 40: %q", n, line)
				}
			}
			if strings.Contains(text, "worst endpoints") {
				t.Errorf("more than ten lines on a terminal of ten: %q", text)
			}
			s.Resize(200, 50)
			s.Await("a larger screen", func(text string) bool { return strings.Contains(text, "worst endpoints: not available") })
			end(s, cancel)
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(patience):
				t.Fatal("the view goes on")
			}
			if err := o.Terminal.Close(); err != nil {
				t.Fatal(err)
			}
			s.Await("the old screen", func(text string) bool { return strings.HasSuffix(text, leaveScreen) })
			after, err := term.GetState(int(s.Terminal.Fd()))
			if err != nil || *after != *before {
				t.Errorf("the terminal is left changed: %+v, was %+v, %v", after, before, err)
			}
		})
	}
}

// strip leaves out what only steers the terminal.
func strip(line string) string {
	return strings.NewReplacer(enterScreen, "", toTop, "", bold, "", plain, "", clearBelow, "", "\r\n", "").Replace(line)
}
