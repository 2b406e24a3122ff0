package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// bombEvery is the pause of each bomber between two bodies: a flood that takes all
// CPU time proves nothing about memory.
const bombEvery = 500 * time.Millisecond

// bomb is a body that costs a careless parser much.
type bomb struct {
	name, path, body string
	status           int
}

// bombs lists them. What is valid, however odd, is accepted; in a batch each event
// is judged by itself.
func bombs() []bomb {
	const event, batch, hooks = "/api/v1/events", "/api/v1/events/batch", "/api/v1/webhooks"
	const large = 250 << 10 // below what an event may carry
	const most = 5 << 20    // what a batch may have, about
	with := func(data string) string { return `{"type":"call.qualified","data":` + data + `}` }
	repeat := func(s string, size int) string { return strings.Repeat(s, size/len(s)) }
	small := with("1")
	return []bomb{
		{"deep arrays", event, with(repeat("[", large)), 400},
		{"deep arrays that end", event, with(repeat("[", large/2) + repeat("]", large/2)), 400},
		{"deep objects", event, with(repeat(`{"a":`, large)), 400},
		{"deep objects that end", event, with(repeat(`{"a":`, large/2) + "1" + strings.Repeat("}", large/2/5)), 400},
		{"a deep batch", batch, repeat("[", most), 400},
		{"a long number", event, with(repeat("9", large)), 202},
		{"a long fraction", event, with("0." + repeat("9", large)), 202},
		{"a long exponent", event, with("1e" + repeat("9", large)), 202},
		{"escapes", event, with(`"` + repeat(`\u0000`, large) + `"`), 202},
		{"surrogates", event, with(`"` + repeat(`\ud83d\ude00`, large) + `"`), 202},
		{"an escaped type", event, `{"type":"` + repeat(`\u0061`, large) + `","data":1}`, 422},
		{"an escaped name", event, `{"` + repeat(`\u0061`, large) + `":1,"type":"call.qualified","data":1}`, 422},
		{"a name many times", event, `{` + repeat(`"type":"call.qualified",`, large) + `"data":1}`, 422},
		{"many names", event, `{` + repeat(`"a":1,`, large) + `"data":1}`, 422},
		{"a name many times in data", event, with(`{` + repeat(`"a":1,`, large) + `"a":1}`), 202},
		{"a string without end", event, `{"type":"` + repeat("a", large), 400},
		{"blanks", batch, repeat(" ", most), 400},
		{"data beyond the limit", event, with(`"` + repeat("a", 257<<10) + `"`), 413},
		{"a body beyond the limit", event, repeat(" ", most), 413},
		{"a batch beyond the limit", batch, "[" + repeat(" ", most) + repeat(" ", most) + "]", 413},
		{"many numbers", batch, "[" + repeat("0,", most-2) + "0]", 413},
		{"many events", batch, "[" + repeat(small+",", most-len(small)-2) + small + "]", 413},
		{"a thousand events", batch, "[" + strings.Repeat(with(`"`+strings.Repeat("a", 5000)+`"`)+",", 999) + small + "]", 202},
		{"a thousand wrong ones", batch, "[" + strings.Repeat(`{"a":1,"b":2,"c":3},`, 999) + "{}]", 202},
		{"a thousand that are no objects", batch, "[" + strings.Repeat("[[[[]]]],", 999) + "0]", 202},
		{"many types of an endpoint", hooks, `{"url":"https://example.com","events":[` + strings.Repeat(`"call.qualified",`, 3500) + `"call.qualified"]}`, 422},
		{"many members of an endpoint", hooks, `{` + strings.Repeat(`"a":1,`, 10_000) + `"a":1}`, 422},
	}
}

// jsonBombs posts one after the other.
func jsonBombs(ctx context.Context, a *attack) error {
	const bombers = 4
	list := bombs()
	requests := make([][]byte, len(list))
	for i, b := range list {
		requests[i] = []byte(a.head("POST", b.path, fmt.Sprintf("Content-Length: %d", len(b.body))) + b.body)
	}
	var wg sync.WaitGroup
	a.crowd(ctx, &wg, bombers, func(ctx context.Context, i int) {
		for n := range list {
			n = (n + i*len(list)/bombers) % len(list)
			if statuses, err := a.say(ctx, requests[n]); err == nil && !slices.Equal(statuses, []int{list[n].status}) {
				a.complain("%s: answered %v, want %d", list[n].name, statuses, list[n].status)
			}
			_ = sleep(ctx, bombEvery)
		}
	})
	a.begin("%d clients, %d kinds of bodies of up to 10 MB", bombers, len(list))
	wg.Wait()
	return nil
}
