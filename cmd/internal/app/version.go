package app

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/sealpost/sealpost/core"
)

// version prints what this program is.
type version struct {
	JSON bool `name:"json" help:"As JSON."`
}

func (v *version) run(_ context.Context, env environment) error {
	if v.JSON {
		return json.NewEncoder(env.stdout).Encode(map[string]string{"version": core.Version, "go": runtime.Version()})
	}
	_, err := fmt.Fprintf(env.stdout, "sealpost %s (%s)\n", core.Version, runtime.Version())
	return err
}
