// Command bench is Sealpost's load test. It starts its own Redis, gateway and
// sender as separate processes on free loopback ports, is producer and receiver
// itself, and runs every scenario in one go, so that each figure can be read as
// a ratio to `floor`: the same producer, payload and receiver with nothing
// between them.
//
// It can also drive a gateway that runs elsewhere (--target, --key) and be a
// receiver alone (--receiver) with a latency and a failure rate of choice.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	scenarios []string
	duration  time.Duration // of each measurement
	payload   int           // bytes of an event's data
	out       string        // folder for report.json and latency.svg
	bin       string        // folder with gateway and sender
	senders   int           // sender processes
	procs     int           // GOMAXPROCS of gateway and sender; 0: as they choose
	quick     bool          // a second each: proves that it works, measures nothing
	profile   string        // folder for CPU profiles of gateway and sender

	target     string // a gateway elsewhere
	key        string // its API key
	publicURL  string // where that gateway reaches this receiver
	receiver   bool   // be a receiver alone
	listen     string // receiver's address
	latency    time.Duration
	failures   float64 // share of requests answered 500
	rate       int     // events/s of the open-loop run against --target
	roleHidden string  // a process of plain-asynq, started by bench itself
	redis      string  // Redis of that process
	concurrent int     // its concurrency
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	o, err := parseOptions(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	switch {
	case o.roleHidden != "":
		err = runPlain(ctx, o)
	case o.receiver:
		err = runReceiver(ctx, o)
	case o.target != "":
		err = runRemote(ctx, o)
	default:
		err = runAll(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func parseOptions(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	names := f.String("scenario", "all", "comma-separated scenarios: "+strings.Join(scenarioNames(), ", "))
	f.DurationVar(&o.duration, "duration", 8*time.Second, "length of each measurement, of those that take turns 3/8 of it (1s to 10m)")
	f.IntVar(&o.payload, "payload", 1000, "bytes of an event's data (100 to 262144)")
	f.StringVar(&o.out, "out", "bench/out", "folder for report.json and latency.svg")
	f.StringVar(&o.bin, "bin", "bin", "folder with the programs gateway and sender")
	f.IntVar(&o.senders, "senders", 1, "sender processes (1 to 8)")
	f.IntVar(&o.procs, "procs", 0, "GOMAXPROCS of gateway and sender (0: as they choose)")
	f.BoolVar(&o.quick, "quick", false, "a second each, for checking that nothing is lost")
	f.StringVar(&o.profile, "profile", "", "folder for CPU profiles of gateway and sender")
	f.StringVar(&o.target, "target", "", "URL of a gateway elsewhere, instead of starting one")
	f.StringVar(&o.key, "key", "", "with --target: an API key with the scopes admin and publish")
	f.StringVar(&o.publicURL, "public-url", "", "with --target: URL under which its senders reach this receiver")
	f.IntVar(&o.rate, "rate", 200, "with --target: events/s (1 to 100000)")
	f.BoolVar(&o.receiver, "receiver", false, "be a receiver alone")
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "address of the receiver")
	f.DurationVar(&o.latency, "latency", 0, "with --receiver: wait before each answer")
	f.Float64Var(&o.failures, "failures", 0, "with --receiver: share of requests answered 500 (0 to 1)")
	f.StringVar(&o.roleHidden, "plain", "", "internal: a process of the plain-asynq scenario")
	f.StringVar(&o.redis, "redis", "", "internal")
	f.IntVar(&o.concurrent, "concurrency", 64, "internal")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.quick {
		o.duration = time.Second
	}
	var err error
	o.scenarios, err = chooseScenarios(*names)
	switch {
	case err != nil:
		return nil, err
	case o.duration < time.Second || o.duration > 10*time.Minute:
		return nil, errors.New("--duration must be between 1s and 10m")
	case o.payload < 100 || o.payload > 256<<10:
		return nil, errors.New("--payload must be between 100 and 262144")
	case o.senders < 1 || o.senders > 8:
		return nil, errors.New("--senders must be between 1 and 8")
	case o.rate < 1 || o.rate > 100_000:
		return nil, errors.New("--rate must be between 1 and 100000")
	case o.target != "" && (o.key == "" || o.publicURL == ""):
		return nil, errors.New("--target needs --key and --public-url")
	}
	return o, nil
}
