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

// A deadline that is put off is not kept at its earlier time, and one that is brought
// forward, or removed, is at once: whatever the poller has been told.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	const soon, far = 20 * time.Millisecond, time.Hour
	read := func(c net.Conn) error { _, err := c.Read(make([]byte, 1)); return err }
	for _, tt := range []struct {
		name  string
		set   func(c *Conn) // before the read
		then  func(c *Conn) // while it waits, after the first deadline
		sent  bool          // afterwards something to be read
		fails bool
	}{
		{name: "put off", set: func(c *Conn) { in(c, soon); in(c, far) }, sent: true},
		{name: "put off twice", set: func(c *Conn) { in(c, soon); in(c, 2*soon); in(c, far) }, sent: true},
		{name: "put off while it waits", set: func(c *Conn) { in(c, 10*soon); in(c, 11*soon) }, then: func(c *Conn) { in(c, far) }, sent: true},
		{name: "removed", set: func(c *Conn) { in(c, soon); _ = c.SetReadDeadline(time.Time{}) }, sent: true},
		{name: "set when the poller's has passed", set: func(c *Conn) { in(c, soon); time.Sleep(2 * soon); in(c, far) }, sent: true},
		{name: "passed", set: func(c *Conn) { in(c, soon) }, fails: true},
		{name: "put off, and passed", set: func(c *Conn) { in(c, soon); in(c, 3*soon) }, fails: true},
		{name: "brought forward", set: func(c *Conn) { in(c, far); in(c, soon) }, fails: true},
		{name: "brought forward while it waits", set: func(c *Conn) { in(c, soon); in(c, far) }, then: func(c *Conn) { in(c, -soon) }, fails: true},
		{name: "in the past", set: func(c *Conn) { in(c, far); in(c, -soon) }, sent: true, fails: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x, peer := pair(t, "tcp")
			c := wrapped(t, x)
			tt.set(c)
			if tt.fails && tt.sent { // what there is to be read comes too late
				_, _ = peer.Write([]byte("x"))
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := read(c); errors.Is(err, os.ErrDeadlineExceeded) != tt.fails || !tt.fails && err != nil {
					t.Errorf("Read: %v, want that its deadline has passed: %t", err, tt.fails)
				}
			})
			if tt.then != nil {
				time.Sleep(soon)
				tt.then(c)
			}
			if tt.sent {
				time.Sleep(15 * soon)
				_, _ = peer.Write([]byte("x"))
			}
			wg.Wait()
		})
	}
}

// A deadline without a reading of the monotonic clock, as go-redis makes them, is kept by
// that clock all the same: a wait whose deadline has passed does not go on when the wall
// clock says that there is time left.
func TestDeadlineOfWallClock(t *testing.T) {
	t.Parallel()
	told := 0
	d := deadline{set: func(time.Time) error { told++; return nil }}
	for _, wall := range []time.Time{time.Now().Add(-time.Second).Round(0), time.Unix(0, time.Now().UnixNano())} {
		if err := d.want(wall); err != nil {
			t.Fatal(err)
		}
		if d.wanted == d.wanted.Round(0) {
			t.Errorf("%v is kept without a monotonic reading", d.wanted)
		}
		if late := time.Since(d.wanted) - time.Since(wall); late.Abs() > time.Second {
			t.Errorf("%v became %v", wall, d.wanted)
		}
	}
	time.Sleep(time.Millisecond)
	if d.goesOn(os.ErrDeadlineExceeded) || told != 1 {
		t.Errorf("the wait goes on, or the poller was told %d times", told)
	}
	if err := d.want(time.Time{}); err != nil || !d.wanted.IsZero() || !d.armed.IsZero() {
		t.Errorf("%+v, want no deadline", d.wanted)
	}
}

// in sets the deadline of reads to so long after now.
func in(c *Conn, d time.Duration) { _ = c.SetReadDeadline(time.Now().Add(d)) }

// A write whose deadline is put off goes on where it was.
func TestWriteDeadlinePutOff(t *testing.T) {
	t.Parallel()
	x, peer := pair(t, "tcp")
	c := wrapped(t, x)
	sent := make([]byte, 16<<20)
	_, _ = rand.Read(sent)
	_ = c.SetDeadline(time.Now().Add(20 * time.Millisecond))
	_ = c.SetDeadline(time.Now().Add(time.Hour))
	var wg sync.WaitGroup
	wg.Go(func() {
		if n, err := c.Write(sent); n != len(sent) || err != nil {
			t.Errorf("Write: %d, %v", n, err)
		}
	})
	time.Sleep(60 * time.Millisecond)
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("Read: %v, as sent: %t", err, bytes.Equal(got, sent))
	}
	wg.Wait()
}

// Where there is no deadline any more, who waits for the descriptor itself is not told
// of one that has passed.
func TestNoDeadlineOfDescriptor(t *testing.T) {
	t.Parallel()
	x, _ := pair(t, "tcp")
	c := wrapped(t, x)
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		in(c, -time.Second)
		_ = c.SetDeadline(time.Time{})
		if err := raw.Read(func(uintptr) bool { return true }); err != nil {
			t.Errorf("Read: %v", err)
		}
	}
}
