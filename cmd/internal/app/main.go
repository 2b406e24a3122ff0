// Package app is what the two programs share: configuration, wiring, the admin
// listener and the commands. It is the only package that sees all others.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// Role tells the two programs apart.
type Role int

// The roles.
const (
	Gateway Role = iota
	Sender
)

// String returns the program's name.
func (r Role) String() string {
	if r == Sender {
		return "sender"
	}
	return "gateway"
}

// Exit statuses.
const (
	exitOK      = 0
	exitFailure = 1 // it could not start, or ended by an error
	exitUsage   = 2 // wrong flags or settings
)

// Main runs a program with its command line and returns the exit status: 0
// after a clean stop, 1 after a failure, 2 for wrong flags or settings. `gateway
// doctor` gives 1 and 2 meanings of its own. SIGINT and SIGTERM stop it
// gracefully, a second signal at once.
func Main(role Role, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from here on a signal kills instead of waiting for the drain
	// A closed pipe on standard output is an error of a write, not our end: the
	// reader of our log may go before our drain is over.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	redis.SetLogger(redisLog{slog.New(slog.DiscardHandler)}) // until there is a log: commands show errors once
	return run(ctx, role, args, os.Stdout, os.Stderr)
}

// run knows nothing of signals: tests call it.
func run(ctx context.Context, role Role, args []string, stdout, stderr io.Writer) int {
	command, err := parse(role, args, stdout)
	switch {
	case errors.Is(err, errHelpShown):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "%s: %v\n", role, err)
		return exitUsage
	}
	err = command.run(ctx, environment{stdout: stdout, stderr: stderr})
	var usage *usageError
	var status statusError
	switch {
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "%s: %v\n", role, err)
		return exitUsage
	case err != nil:
		fmt.Fprintf(stderr, "%s: %v\n", role, err)
		return exitFailure
	}
	return exitOK
}

// statusError ends a command that has said everything with an exit status.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// environment is where a command writes.
type environment struct {
	stdout io.Writer // what was asked for
	stderr io.Writer // logs
}

// runner is a parsed command.
type runner interface {
	run(ctx context.Context, env environment) error
}
