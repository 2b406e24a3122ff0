package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bench/internal/lab"
)

// runner runs scenarios and collects what they found.
type runner struct {
	o        *options
	receiver *receiver
	payloads *lab.Payloads
	terminal bool
	results  []*result
	length   time.Duration // of each measurement
	turn     int           // of those that take turns

	stack    *lab.Stack        // started when the first scenario needs it
	settings map[string]string // of the next stack, beside the usual ones
}

// scenario is one row of the plan; run adds its results.
type scenario struct {
	name  string
	run   func(*runner, context.Context) error
	turns bool // takes turns with the others that do: their rates are compared
	extra bool // not part of `all`: it says how the figures grow
}

func scenarioNames() []string {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}

func chooseScenarios(list string) ([]string, error) {
	known := scenarioNames()
	var chosen []string
	if list == "all" {
		for _, s := range scenarios() {
			if !s.extra {
				chosen = append(chosen, s.name)
			}
		}
		return chosen, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("--scenario: %q is none of %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, name)
	}
	return chosen, nil
}

// runAll runs the chosen scenarios in the order of the plan, those that take turns
// first.
func runAll(ctx context.Context, o *options) error {
	rec, err := newReceiver(o.listen)
	if err != nil {
		return err
	}
	defer rec.close()
	if slices.Contains(o.scenarios, "tls") {
		if err := rec.listenTLS(); err != nil {
			return err
		}
	}
	info, err := os.Stderr.Stat()
	r := &runner{o: o, receiver: rec, payloads: lab.NewPayloads(o.payload), terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
	defer func() {
		if r.stack != nil {
			r.stack.Close()
		}
	}()
	for _, dir := range []string{o.out, o.profile} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := r.takeTurns(ctx); err != nil {
		return err
	}
	if err := r.run(ctx, false); err != nil {
		return err
	}
	return r.report()
}

// run runs the chosen scenarios that take turns, or those that do not.
func (r *runner) run(ctx context.Context, turns bool) error {
	for _, s := range scenarios() {
		if s.turns != turns || !slices.Contains(r.o.scenarios, s.name) {
			continue
		}
		if err := s.run(r, ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// add keeps a result and prints its row at once. Where something is amiss the
// stack's logs are kept.
func (r *runner) add(res *result) {
	res.Turn = r.turn
	r.results = append(r.results, res)
	if r.stack != nil && res.wrong() {
		r.stack.Keep = true
	}
	fmt.Fprintln(os.Stderr, row(res))
}

// sealpost returns the stack under test, starting it if need be.
func (r *runner) sealpost(ctx context.Context) (*lab.Stack, error) {
	if r.stack == nil {
		s, err := lab.StartStack(ctx, lab.Options{Bin: r.o.bin, Senders: r.o.senders, Procs: r.o.procs, Roots: r.receiver.roots, Settings: r.settings})
		if err != nil {
			return nil, err
		}
		r.stack = s
	}
	return r.stack, nil
}

// fresh ends the stack, so that the next scenario starts with an empty Redis.
func (r *runner) fresh() {
	if r.stack != nil {
		r.stack.Close()
		r.stack = nil
	}
}

// find returns the best result of a scenario by deliveries/s, nil if it did not
// run.
func (r *runner) find(name string) *result {
	var best *result
	for _, res := range r.results {
		if res.Scenario == name && (best == nil || res.DeliveredPerSecond > best.DeliveredPerSecond) {
			best = res
		}
	}
	return best
}

// quietest returns a scenario's result that cost the processes least, nil if there is
// none.
func (r *runner) quietest(name string) *result {
	var best *result
	for _, res := range r.results {
		if res.Scenario == name && (best == nil || systemCPU(res) < systemCPU(best)) {
			best = res
		}
	}
	return best
}

// correct returns an error when a run lost or doubled anything.
func (r *runner) correct() error {
	var errs []error
	for _, res := range r.results {
		if res.wrong() {
			errs = append(errs, fmt.Errorf("%s %s: %d lost, %d duplicated, %d forged", res.Scenario, res.Variant, res.Lost, res.Duplicated, res.Forged))
		}
	}
	return errors.Join(errs...)
}

func download(url, file string) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}
