// Command chaos proves what docs/RELIABILITY.md promises. For each fault it starts
// a Redis, a gateway and two senders as processes, publishes, does harm, waits for
// quiet, and compares what was answered 202 with what the receivers got.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	faults   []*fault
	seed     uint64
	duration time.Duration // of the soak
	rate     int           // of the soak, deliveries/s; 0: a part of the capacity that it measures
	bin      string        // folder with gateway and sender
	out      string        // folder for the reports
	quick    bool          // a few seconds each
	list     bool
}

func main() { os.Exit(run(os.Args[1:], os.Stdout)) }

func run(args []string, out io.Writer) int {
	if len(args) > 0 && args[0] == attackRole {
		raiseFileLimit()
		if err := attackApart(args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "chaos:", err)
			return 1
		}
		return 0
	}
	o, err := parseOptions(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 2
	case o.list:
		printFaults(out)
		return 0
	}
	raiseFileLimit()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	results, err := runFaults(ctx, o)
	if err = errors.Join(err, report(out, o, results)); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 1
	}
	return 0
}

func parseOptions(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("chaos", flag.ContinueOnError)
	names := f.String("fault", "all", "comma-separated faults; all; or ci: what takes about five minutes")
	f.Uint64Var(&o.seed, "seed", 1, "of everything that is drawn: which sender is killed, and the like")
	f.DurationVar(&o.duration, "duration", 40*time.Second, "length of the soak (10s to 12h)")
	f.IntVar(&o.rate, "rate", 0, "deliveries/s of the soak; 0: 60 % of what the machine can do, which is measured first")
	f.StringVar(&o.bin, "bin", "bin", "folder with the programs gateway and sender")
	f.StringVar(&o.out, "out", "bench/out", "folder for chaos.json, and soak.json and soak.svg")
	f.BoolVar(&o.quick, "quick", false, "few and short faults, for checking that the suite works")
	f.BoolVar(&o.list, "list", false, "list the faults and what each promises")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.duration < 10*time.Second || o.duration > 12*time.Hour {
		return nil, errors.New("--duration must be between 10s and 12h")
	}
	if o.rate < 0 || o.rate > 100_000 {
		return nil, errors.New("--rate must be between 0 and 100000")
	}
	var err error
	o.faults, err = chooseFaults(*names)
	return o, err
}

// chooseFaults returns the named faults in the order of the plan.
func chooseFaults(names string) ([]*fault, error) {
	wanted := strings.Split(names, ",")
	var chosen []*fault
	var known []string
	for _, f := range faults() {
		known = append(known, f.name)
		if names == "all" || names == "ci" && f.ci || slices.Contains(wanted, f.name) {
			chosen = append(chosen, f)
		}
	}
	for _, name := range wanted {
		if name != "all" && name != "ci" && !slices.Contains(known, name) {
			return nil, fmt.Errorf("--fault: %q is none of %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}
