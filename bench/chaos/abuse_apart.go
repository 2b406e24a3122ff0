package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// attackRole, as the first argument, makes this program a process of attackers:
// `attack NAME ADDRESS KEY`, and `quick` behind it. In the process of the good clients
// they would take turns with those and their receivers, and the collector would look
// through ten thousands of goroutines while these wait: what they wait for would be
// their own harness.
const attackRole = "attack"

// attackersEnd is how long attackers may take to end once they are told to.
const attackersEnd = 20 * time.Second

// attacksApart are the attacks that are made in a process of their own.
func attacksApart() map[string]func(context.Context, *attack) error {
	return map[string]func(context.Context, *attack) error{
		"slow-requests": slowRequests, "lying-lengths": lyingLengths, "header-floods": headerFloods, "json-bombs": jsonBombs, "idle-connections": idle,
	}
}

// said is what a process of attackers says, each a line of JSON: when the abuse is as
// bad as it gets, and when it ends.
type said struct {
	Abuse string   `json:"abuse,omitempty"`
	Done  int64    `json:"done"`
	Odd   []string `json:"odd,omitempty"`
}

// apart makes an attack in a process of its own, at the lowest priority: attackers have
// machines of their own, and take hardly any of the gateway's processor but what it and
// the kernel spend on them.
func apart(name string) func(context.Context, *attack) error {
	return func(ctx context.Context, a *attack) (err error) {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		args := []string{"-n", "19", self, attackRole, name, a.addr, a.key}
		if a.quick {
			args = append(args, "quick")
		}
		attackers := exec.Command("nice", args...)
		attackers.Stderr = os.Stderr
		end, err := attackers.StdinPipe()
		if err != nil {
			return err
		}
		says, err := attackers.StdoutPipe()
		if err != nil {
			return err
		}
		if err := attackers.Start(); err != nil {
			return err
		}
		ending, stop := context.WithCancel(ctx)
		stuck := make(chan *time.Timer, 1)
		context.AfterFunc(ending, func() {
			_ = end.Close()
			stuck <- time.AfterFunc(attackersEnd, func() { _ = attackers.Process.Kill() })
		})
		defer func() {
			stop()
			err = errors.Join(err, attackers.Wait())
			(<-stuck).Stop()
		}()
		var s said
		lines := json.NewDecoder(says)
		if err := lines.Decode(&s); err != nil {
			return fmt.Errorf("the beginning of %s: %w", name, err)
		}
		a.begun(s.Abuse)
		if err := lines.Decode(&s); err != nil {
			return fmt.Errorf("the end of %s: %w", name, err)
		}
		a.done.Add(s.Done)
		for _, odd := range s.Odd {
			a.complain("%s", odd)
		}
		return nil
	}
}

// attackApart is the process of attackRole. It ends when its standard input does.
func attackApart(args []string) error {
	if len(args) < 3 {
		return fmt.Errorf("%s needs a name, an address and an API key", attackRole)
	}
	do, ok := attacksApart()[args[0]]
	if !ok {
		return fmt.Errorf("%s: %q is no attack", attackRole, args[0])
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	out := json.NewEncoder(os.Stdout)
	a := &attack{addr: args[1], key: args[2], quick: len(args) > 3}
	a.begun = func(abuse string) { _ = out.Encode(said{Abuse: abuse, Done: a.done.Load()}) }
	err := do(ctx, a)
	a.mu.Lock()
	defer a.mu.Unlock()
	return errors.Join(err, out.Encode(said{Done: a.done.Load(), Odd: a.odd}))
}
