package dnstest

import (
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Reply is an answer on its way: to the one question of Message.
type Reply struct {
	*dnsmessage.Message
	N      int  // how often this question has been asked, from 1
	Packet bool // over UDP
}

// Answer writes a reply; false: nothing is answered.
type Answer func(r *Reply) bool

// Addrs answers with addresses, each as the record of its kind and in that order, and
// with a time to live of 0.
func Addrs(addrs ...string) Answer {
	parsed := make([]netip.Addr, len(addrs))
	for i, a := range addrs {
		parsed[i] = netip.MustParseAddr(a)
	}
	return func(r *Reply) bool {
		r.add(r.Questions[0].Name, parsed)
		return true
	}
}

// Many answers with n addresses of 127.0.0.0/8, from 127.0.0.1 on.
func Many(n int) Answer {
	addrs := make([]string, n)
	addr := netip.MustParseAddr("127.0.0.1")
	for i := range addrs {
		addrs[i] = addr.String()
		addr = addr.Next()
	}
	return Addrs(addrs...)
}

// Alias answers that the name is another one, which is a third one, and so on, and
// that the last one has the addresses.
func Alias(names []string, addrs ...string) Answer {
	parsed := make([]netip.Addr, len(addrs))
	for i, a := range addrs {
		parsed[i] = netip.MustParseAddr(a)
	}
	return func(r *Reply) bool {
		name := r.Questions[0].Name
		for _, next := range names {
			target := dnsmessage.MustNewName(next + ".")
			r.Answers = append(r.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: name, Type: dnsmessage.TypeCNAME, Class: dnsmessage.ClassINET},
				Body:   &dnsmessage.CNAMEResource{CNAME: target},
			})
			name = target
		}
		r.add(name, parsed)
		return true
	}
}

// InTurn gives the n-th question of a kind the n-th answer, and every further one the
// last.
func InTurn(answers ...Answer) Answer {
	return func(r *Reply) bool { return answers[min(r.N, len(answers))-1](r) }
}

// Alternating gives one answer and the other by turns.
func Alternating(odd, even Answer) Answer {
	return func(r *Reply) bool {
		if r.N%2 == 1 {
			return odd(r)
		}
		return even(r)
	}
}

// Fails answers that the server cannot tell.
func Fails(r *Reply) bool {
	r.RCode = dnsmessage.RCodeServerFailure
	return true
}

// Silent does not answer.
func Silent(*Reply) bool { return false }

// Forged answers with an address, but to a question that was not asked.
func Forged(addr string) Answer {
	return func(r *Reply) bool {
		r.ID++
		r.Questions[0].Name = dnsmessage.MustNewName("other." + strings.TrimPrefix(r.Questions[0].Name.String(), "."))
		r.add(r.Questions[0].Name, []netip.Addr{netip.MustParseAddr(addr)})
		return true
	}
}

func (r *Reply) add(name dnsmessage.Name, addrs []netip.Addr) {
	for _, addr := range addrs {
		header := dnsmessage.ResourceHeader{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
		var body dnsmessage.ResourceBody
		if addr.Is4() {
			body = &dnsmessage.AResource{A: addr.As4()}
		} else {
			header.Type, body = dnsmessage.TypeAAAA, &dnsmessage.AAAAResource{AAAA: addr.As16()}
		}
		if header.Type == r.Questions[0].Type {
			r.Answers = append(r.Answers, dnsmessage.Resource{Header: header, Body: body})
		}
	}
}
