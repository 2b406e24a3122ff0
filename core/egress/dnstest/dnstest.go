// Package dnstest is a name server for tests, over UDP and TCP on loopback. It says
// what a test wants it to, also what no honest one would.
package dnstest

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	maxPacket  = 1232      // bytes over UDP; a longer answer has to be fetched over TCP
	maxMessage = 1<<16 - 1 // bytes over TCP
)

// Server is a running name server. Names that it does not know do not exist.
type Server struct {
	packets net.PacketConn
	streams net.Listener
	closed  sync.WaitGroup

	mu    sync.Mutex
	zone  map[string]Answer
	asked map[question]int
	conns map[net.Conn]bool
}

type question struct {
	name string
	kind dnsmessage.Type
}

// Start starts a server that ends with the test.
func Start(t testing.TB, zone map[string]Answer) *Server {
	t.Helper()
	s := &Server{zone: zone, asked: make(map[question]int), conns: make(map[net.Conn]bool)}
	s.listen(t)
	s.closed.Go(s.servePackets)
	s.closed.Go(s.serveStreams)
	t.Cleanup(func() {
		s.packets.Close()
		s.streams.Close()
		s.mu.Lock()
		for c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		s.closed.Wait()
	})
	return s
}

// listen takes a port that is free for both.
func (s *Server) listen(t testing.TB) {
	t.Helper()
	var err error
	for range 20 {
		if s.packets, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			break
		}
		if s.streams, err = net.Listen("tcp", s.packets.LocalAddr().String()); err == nil {
			return
		}
		s.packets.Close()
	}
	t.Fatal(err)
}

// Addr returns where the server listens.
func (s *Server) Addr() netip.AddrPort {
	return netip.MustParseAddrPort(s.packets.LocalAddr().String())
}

// Asked returns how often a name was looked up: questions about its IPv4 addresses.
func (s *Server) Asked(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[question{name, dnsmessage.TypeA}]
}

func (s *Server) servePackets() {
	buf := make([]byte, maxMessage)
	for {
		n, from, err := s.packets.ReadFrom(buf)
		if err != nil {
			return
		}
		reply := s.reply(buf[:n], true)
		if len(reply) > 0 {
			s.packets.WriteTo(reply, from) // a lost packet is asked for again
		}
	}
}

func (s *Server) serveStreams() {
	for {
		c, err := s.streams.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.closed.Go(func() {
			defer c.Close()
			s.serveStream(c)
		})
	}
}

// serveStream answers until the client hangs up. Each message has its length in
// front.
func (s *Server) serveStream(c net.Conn) {
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		reply := s.reply(query, false)
		if len(reply) == 0 || len(reply) > maxMessage {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}

// reply returns the answer to a query; nil: none.
func (s *Server) reply(query []byte, packet bool) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	key := question{strings.ToLower(strings.TrimSuffix(q.Name.String(), ".")), q.Type}
	s.mu.Lock()
	answer := s.zone[key.name]
	if packet { // over TCP a question is asked once more
		s.asked[key]++
	}
	n := s.asked[key]
	s.mu.Unlock()

	m.Response, m.Authoritative, m.RecursionAvailable, m.Additionals = true, true, true, nil
	if answer == nil {
		m.RCode = dnsmessage.RCodeNameError
	} else if !answer(&Reply{Message: &m, N: n, Packet: packet}) {
		return nil
	}
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	if packet && len(packed) > maxPacket {
		m.Truncated, m.Answers = true, nil
		if packed, err = m.Pack(); err != nil {
			return nil
		}
	}
	return packed
}
