package rawconn

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/core/leaktest"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

// pair returns the two ends of a connection, as package net has them.
func pair(t *testing.T, network string) (a, b net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial(network, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func wrapped(t *testing.T, c net.Conn) *Conn {
	t.Helper()
	w, ok := Wrap(c).(*Conn)
	if !ok {
		t.Fatalf("%T was not wrapped", c)
	}
	return w
}

// Megabytes in both directions at once, more than the socket's buffers hold: both
// sides wait for one another.
func TestTransfer(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			x, y := pair(t, network)
			a, b := wrapped(t, x), wrapped(t, y)
			sent := make([]byte, 8<<20)
			_, _ = rand.Read(sent)
			var wg sync.WaitGroup
			for _, c := range []*Conn{a, b} {
				wg.Go(func() {
					if n, err := c.Write(sent); n != len(sent) || err != nil {
						t.Errorf("Write: %d, %v", n, err)
					}
				})
				wg.Go(func() {
					got := make([]byte, len(sent))
					if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
						t.Errorf("Read: %v, as sent: %t", err, bytes.Equal(got, sent))
					}
				})
			}
			wg.Wait()
			for name, f := range map[string]func([]byte) (int, error){"Read": a.Read, "Write": a.Write} {
				if n, err := f(nil); n != 0 || err != nil {
					t.Errorf("%s of nothing: %d, %v", name, n, err)
				}
			}
		})
	}
}

// Whatever goes wrong is told as package net tells it.
func TestErrors(t *testing.T) {
	t.Parallel()
	b := make([]byte, 1)
	full := make([]byte, 64<<20)
	var plain, ours error
	for name, fail := range map[string]func(c, peer net.Conn) error{
		"end": func(c, peer net.Conn) error {
			peer.Close()
			_, err := c.Read(b)
			return err
		},
		"read after deadline": func(c, _ net.Conn) error {
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err := c.Read(b)
			return err
		},
		"write after deadline": func(c, _ net.Conn) error {
			_ = c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
			n, err := c.Write(full)
			if n <= 0 || n >= len(full) {
				t.Errorf("%d of %d bytes were written within the deadline", n, len(full))
			}
			return err
		},
		"read of closed": func(c, _ net.Conn) error {
			c.Close()
			_, err := c.Read(b)
			return err
		},
		"write of closed": func(c, _ net.Conn) error {
			c.Close()
			_, err := c.Write(b)
			return err
		},
		"closed while reading": func(c, _ net.Conn) error {
			defer time.AfterFunc(5*time.Millisecond, func() { c.Close() }).Stop()
			_, err := c.Read(b)
			return err
		},
		"read after reset": func(c, peer net.Conn) error {
			_ = peer.(*net.TCPConn).SetLinger(0)
			peer.Close()
			_, err := c.Read(b)
			return err
		},
		"write after reset": func(c, peer net.Conn) error {
			_ = peer.(*net.TCPConn).SetLinger(0)
			peer.Close()
			_, _ = c.Read(b)
			_, err := c.Write(b)
			return err
		},
	} {
		x, peer := pair(t, "tcp")
		plain = fail(x, peer)
		y, peer := pair(t, "tcp")
		ours = fail(wrapped(t, y), peer)
		if plain == nil || ours == nil {
			t.Errorf("%s: no error: %v, %v", name, plain, ours)
			continue
		}
		var p, o *net.OpError
		if errors.As(plain, &p) != errors.As(ours, &o) {
			t.Errorf("%s: %#v instead of %#v", name, ours, plain)
			continue
		}
		for _, is := range []error{io.EOF, net.ErrClosed, os.ErrDeadlineExceeded, syscall.ECONNRESET, syscall.EPIPE} {
			if errors.Is(plain, is) != errors.Is(ours, is) {
				t.Errorf("%s: %v instead of %v", name, ours, plain)
			}
		}
		if p != nil && (o.Op != p.Op || o.Net != p.Net || o.Timeout() != p.Timeout() || o.Source.String() != y.LocalAddr().String() ||
			o.Addr.String() != y.RemoteAddr().String() || o.Err.Error() != p.Err.Error()) {
			t.Errorf("%s: %#v instead of %#v", name, o, p)
		}
	}
}

func TestQuiet(t *testing.T) {
	t.Parallel()
	x, y := pair(t, "tcp")
	a, b := wrapped(t, x), wrapped(t, y)
	quiet := func() (quiet bool) {
		raw, _ := a.SyscallConn()
		if err := raw.Control(func(fd uintptr) { quiet = Quiet(fd) }); err != nil {
			t.Error(err)
		}
		return quiet
	}
	until := func(want bool, after string) {
		t.Helper()
		for end := time.Now().Add(5 * time.Second); quiet() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("after %s: quiet is %t", after, !want)
			}
		}
	}
	until(true, "nothing")
	_, _ = b.Write([]byte("x"))
	until(false, "a byte")
	got := make([]byte, 2)
	if n, err := a.Read(got); n != 1 || err != nil || got[0] != 'x' {
		t.Errorf("the byte is not there any more: %q, %v", got[:n], err)
	}
	until(true, "its reading")
	b.Close()
	until(false, "the end")
}

func TestOthersStayAsTheyAre(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	secure := tls.Client(a, &tls.Config{ServerName: "x"})
	for _, c := range []net.Conn{a, secure} {
		if Wrap(c) != c {
			t.Errorf("%T was wrapped", c)
		}
	}
}

func TestAllocations(t *testing.T) {
	x, y := pair(t, "tcp")
	a, b := wrapped(t, x), wrapped(t, y)
	buf := make([]byte, 16)
	if got := testing.AllocsPerRun(100, func() {
		_, _ = a.Write(buf)
		_, _ = io.ReadFull(b, buf)
	}); got > 0 {
		t.Errorf("%v allocations for a write and a read", got)
	}
}
