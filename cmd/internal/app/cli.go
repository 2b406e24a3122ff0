package app

import (
	"errors"
	"io"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/sealpost/sealpost/core"
)

// gatewayCommands is the command line of `gateway`.
type gatewayCommands struct {
	Serve   serveGateway `cmd:"" help:"Serve the API."`
	Dev     dev          `cmd:"" help:"Run gateway, sender, Redis and a sample endpoint in one process, to try Sealpost out."`
	Keys    keyCommands  `cmd:"" help:"Create, list and revoke API keys."`
	Verify  verify       `cmd:"" help:"Check the signature of a delivery read from standard input."`
	Version version      `cmd:"" help:"Print the version."`
}

// senderCommands is the command line of `sender`.
type senderCommands struct {
	Serve   serveSender `cmd:"" help:"Deliver events until stopped."`
	Version version     `cmd:"" help:"Print the version."`
}

// errHelpShown says that nothing is left to do.
var errHelpShown = errors.New("help was shown")

// parse reads the command line and the environment. All its errors are usage
// errors that name the variable or flag.
func parse(role Role, args []string, stdout io.Writer) (command runner, err error) {
	parser, err := newParser(role, stdout)
	if err != nil {
		return nil, err
	}
	// kong ends the process after --help; here it ends the parse.
	defer func() {
		if r := recover(); r != nil {
			if r == errHelpShown { //nolint:errorlint // the very value that exit panics with
				command, err = nil, errHelpShown
				return
			}
			panic(r)
		}
	}()
	parsed, err := parser.Parse(args)
	if err != nil {
		return nil, &usageError{text: nameVariable(err.Error())}
	}
	command, ok := parsed.Selected().Target.Addr().Interface().(runner)
	if !ok {
		return nil, &usageError{text: "name a command; --help lists them"}
	}
	return command, nil
}

// newParser returns the parser of a role's command line.
func newParser(role Role, stdout io.Writer) (*kong.Kong, error) {
	var root any = &gatewayCommands{}
	admin := "127.0.0.1:9090"
	if role == Sender {
		root = &senderCommands{}
		admin = "127.0.0.1:9091"
	}
	return kong.New(root,
		kong.Name(role.String()),
		kong.Description("Sealpost "+core.Version+": signed webhooks, delivered. Every setting is an environment variable and a flag."),
		kong.Writers(stdout, stdout),
		kong.Exit(func(int) { panic(errHelpShown) }),
		kong.Vars{"admin_listen": admin},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 120}),
	)
}

var flagName = regexp.MustCompile(`--([a-z][a-z-]*)`)

// nameVariable puts the environment variable before a message that names only
// its flag.
func nameVariable(message string) string {
	if strings.Contains(message, "SEALPOST_") || strings.HasPrefix(message, "unknown flag") {
		return message
	}
	m := flagName.FindStringSubmatch(message)
	if m == nil {
		return message
	}
	return "SEALPOST_" + strings.ToUpper(strings.ReplaceAll(m[1], "-", "_")) + ": " + message
}
