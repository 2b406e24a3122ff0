// Command gateway is Sealpost's public side: the API that keeps subscriptions
// and accepts events, the commands that keep its API keys, and a whole Sealpost
// in one process for development. `gateway --help` lists all.
package main

import (
	"os"

	"github.com/sealpost/sealpost/cmd/internal/app"
)

func main() { os.Exit(app.Main(app.Gateway, os.Args[1:])) }
