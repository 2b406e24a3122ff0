package app

import (
	"errors"
	"io"
	"maps"
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
	Doctor  doctorCheck  `cmd:"" help:"Check Redis, keys, queues, processes and settings. Status 0: fine, 1: warnings (with --strict), 2: errors."`
	Top     topView      `cmd:"" help:"Show rates, latencies, queues and Redis in the terminal; q ends."`
	Verify  verify       `cmd:"" help:"Check the signature of a delivery read from standard input."`
	Version version      `cmd:"" help:"Print the version."`

	ShowVersion versionFlag `name:"version" help:"Print the version."`
}

// senderCommands is the command line of `sender`.
type senderCommands struct {
	Serve   serveSender `cmd:"" help:"Deliver events until stopped."`
	Version version     `cmd:"" help:"Print the version."`

	ShowVersion versionFlag `name:"version" help:"Print the version."`
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
		text := nameVariable(err.Error(), variables(parser.Model.Node))
		if strings.HasPrefix(text, "unexpected argument") {
			text += "; --help lists the commands"
		}
		return nil, &usageError{text: text}
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

// variables returns the environment variable of each flag that has one.
func variables(node *kong.Node) map[string]string {
	byFlag := make(map[string]string)
	for _, flag := range node.Flags {
		if len(flag.Envs) > 0 {
			byFlag[flag.Name] = flag.Envs[0]
		}
	}
	for _, child := range node.Children {
		maps.Copy(byFlag, variables(child))
	}
	return byFlag
}

// nameVariable puts the environment variable before a message that names only
// its flag.
func nameVariable(message string, byFlag map[string]string) string {
	m := flagName.FindStringSubmatch(message)
	if m == nil || byFlag[m[1]] == "" || strings.Contains(message, byFlag[m[1]]) {
		return message
	}
	return byFlag[m[1]] + ": " + message
}

// unknownVariables returns the SEALPOST_ variables of the environment that
// neither program knows: most likely typing errors.
func unknownVariables(environ []string) ([]string, error) {
	known := make(map[string]bool)
	for _, role := range []Role{Gateway, Sender} {
		parser, err := newParser(role, io.Discard)
		if err != nil {
			return nil, err
		}
		for _, name := range variables(parser.Model.Node) {
			known[name] = true
		}
	}
	var unknown []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "SEALPOST_") && !known[name] {
			unknown = append(unknown, name)
		}
	}
	return unknown, nil
}
