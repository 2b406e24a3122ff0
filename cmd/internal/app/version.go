package app

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/alecthomas/kong"

	"github.com/sealpost/sealpost/core"
)

// version prints what this program is.
type version struct {
	JSON bool `name:"json" help:"As JSON."`
}

// versionFlag is the same as a flag, where users look for it first.
type versionFlag bool

// BeforeReset prints the version and ends the parse.
func (versionFlag) BeforeReset(app *kong.Kong) error {
	fmt.Fprintln(app.Stdout, versionText())
	app.Exit(0)
	return nil
}

func versionText() string { return fmt.Sprintf("sealpost %s (%s)", core.Version, runtime.Version()) }

func (v *version) run(_ context.Context, env environment) error {
	if v.JSON {
		return json.NewEncoder(env.stdout).Encode(map[string]string{"version": core.Version, "go": runtime.Version()})
	}
	_, err := fmt.Fprintln(env.stdout, versionText())
	return err
}
