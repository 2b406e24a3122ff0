// Command sender delivers what the gateway accepted: any number of them work
// side by side on the same Redis. `sender --help` lists all settings.
package main

import (
	"os"

	"github.com/sealpost/sealpost/cmd/internal/app"
)

func main() { os.Exit(app.Main(app.Sender, os.Args[1:])) }
