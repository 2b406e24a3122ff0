package proxy

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"
)

// echo answers each line with itself, twelve bytes long at least.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

func start(t *testing.T) *Proxy {
	t.Helper()
	p, err := Start(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func dial(t *testing.T, p *Proxy) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, bufio.NewReader(conn)
}

// ask sends a line and returns what comes back up to its end, or the connection's.
func ask(conn net.Conn, r *bufio.Reader) (string, error) {
	if _, err := io.WriteString(conn, "hello world\n"); err != nil {
		return "", err
	}
	return r.ReadString('\n')
}

func TestConditions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Conditions{"none": {}, "latency": {Latency: time.Millisecond}, "rate": {Rate: 2000}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t)
			p.Set(c)
			conn, r := dial(t, p)
			for range 3 {
				if line, err := ask(conn, r); line != "hello world\n" || err != nil {
					t.Fatalf("answer %q, %v", line, err)
				}
			}
		})
	}
}

func TestSwallow(t *testing.T) {
	t.Parallel()
	p := start(t)
	conn, r := dial(t, p)
	if _, err := ask(conn, r); err != nil {
		t.Fatal(err)
	}
	p.Set(Conditions{Swallow: true})
	conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	line, err := ask(conn, r)
	if timeout, ok := err.(net.Error); line != "" || !ok || !timeout.Timeout() {
		t.Fatalf("a half-open connection answers %q, %v", line, err)
	}
	if n := p.Reset(); n != 1 {
		t.Errorf("%d connections are reset, want 1", n)
	}
	conn.SetReadDeadline(time.Time{})
	if _, err := r.ReadByte(); err == nil {
		t.Error("the connection lives after a reset")
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.Set(Conditions{Refuse: true})
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		return // reset before it was there
	}
	defer conn.Close()
	if line, err := ask(conn, bufio.NewReader(conn)); err == nil {
		t.Errorf("a refused connection answers %q", line)
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		verdict Verdict
		want    string
	}{"drop": {Drop, ""}, "lose": {LoseReply, ""}, "cut": {CutReply, "hello "}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t)
			p.Judge(func(_ []byte, nth int) Verdict {
				if nth == 1 {
					return c.verdict
				}
				return Pass
			})
			conn, r := dial(t, p)
			if line, err := ask(conn, r); line != "hello world\n" || err != nil {
				t.Fatalf("the first answer is %q, %v", line, err)
			}
			if line, err := ask(conn, r); err == nil || line != c.want {
				t.Errorf("the second answer is %q, %v; want %q and the end", line, err, c.want)
			}
		})
	}
}
