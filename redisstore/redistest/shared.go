package redistest

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// maxDatabases bounds the tests of a binary that use one Shared at a time.
const maxDatabases = 256

// Shared is one redis-server for all tests of a binary. It starts with the
// first Database. The zero value is ready:
//
//	var shared redistest.Shared
//
//	func TestMain(m *testing.M) {
//		code := m.Run()
//		shared.Stop()
//		os.Exit(code)
//	}
//
// Tests that kill, freeze or configure their server, flush scripts or count
// commands need a Start of their own. Channels are not divided by databases: a
// published message reaches the subscribers of all tests.
type Shared struct {
	// Options apply to the server; set before the first Database.
	Options []Option

	mu   sync.Mutex
	p    *process
	err  error // why the server did not start; kept, so that it is tried once
	free []int // databases that no test uses
}

// Database is an empty database of a Shared that belongs to one test.
type Database struct {
	p      *process
	number int
}

// Database hands out an empty database, which returns when tb ends.
func (s *Shared) Database(tb testing.TB) *Database {
	tb.Helper()
	p, number := s.take(tb)
	tb.Cleanup(func() {
		if err := flush(p, number); err != nil {
			tb.Errorf("flush database %d: %v\n%s", number, err, p.log())
			return // not handed out again: it may hold something
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.free = append(s.free, number)
	})
	return &Database{p: p, number: number}
}

func (s *Shared) take(tb testing.TB) (*process, int) {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.p == nil && s.err == nil {
		config := append(configOf(s.Options), "--databases", strconv.Itoa(maxDatabases))
		s.p, s.err = launch(config)
		for number := range maxDatabases {
			s.free = append(s.free, number)
		}
	}
	if s.err != nil {
		tb.Fatal(s.err)
	}
	if len(s.free) == 0 {
		tb.Fatalf("all %d databases of the shared redis-server are in use", maxDatabases)
	}
	number := s.free[0]
	s.free = s.free[1:]
	return s.p, number
}

func flush(p *process, number int) error {
	client := p.client(number)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return client.FlushDB(ctx).Err()
}

// Stop ends the server, if one was started, and deletes its files.
func (s *Shared) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.p == nil {
		return
	}
	_ = s.p.remove() // a left-over temporary directory is no reason to fail the tests
	s.p, s.free = nil, nil
}

// URL returns the database's address over TCP, `redis://127.0.0.1:<port>/<n>`.
func (d *Database) URL() string { return "redis://" + d.p.addr() + "/" + strconv.Itoa(d.number) }

// Addr returns the server's loopback host and port.
func (d *Database) Addr() string { return d.p.addr() }

// Number returns the number of the database.
func (d *Database) Number() int { return d.number }

// Client returns a client of the database over the Unix socket, which is closed
// when tb ends.
func (d *Database) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	return newClient(tb, d.p, d.number)
}
