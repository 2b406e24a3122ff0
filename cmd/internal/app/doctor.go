package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/sealpost/sealpost/cmd/internal/app/doctor"
	"github.com/sealpost/sealpost/core/queue"
	"github.com/sealpost/sealpost/redisstore"
)

// Exit statuses of doctor that are not those of other commands.
const (
	exitWarnings = 1
	exitErrors   = 2
)

// doctorCheck is `gateway doctor`. It takes the settings of gateway and sender
// that it judges or needs to connect.
type doctorCheck struct {
	redisSettings
	AdminListen string `env:"SEALPOST_ADMIN_LISTEN" default:"${admin_listen}" help:"Address of the admin listener, to judge whether it is private."`
	keySettings
	targetSettings
	JSON   bool `name:"json" help:"As JSON, in the form that docs/DIAGNOSIS.md describes."`
	Strict bool `help:"End with status 1 when there are warnings."`
}

func (c *doctorCheck) run(ctx context.Context, env environment) (err error) {
	at, err := redisstore.ParseURL(c.RedisURL)
	if err != nil {
		return badSetting("SEALPOST_REDIS_URL", err.Error())
	}
	client := redisstore.Open(at, redisstore.ProfileStore)
	defer func() { err = errors.Join(err, client.Close()) }()
	store, err := redisstore.New(redisstore.Options{Client: client})
	if err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	queues, err := queue.NewCollector(queue.Options{Client: client, Logger: quiet})
	if err != nil {
		return err
	}
	unknown, err := unknownVariables(os.Environ())
	if err != nil {
		return err
	}
	o := doctor.Options{
		Client: client, Store: store, Queues: queues,
		Addresses: at.Addrs, Password: at.Password != "", TLS: at.TLSConfig != nil,
		KeysFile: c.MasterKeysFile, KeyFiles: clientKeys(), Durability: c.Durability, AllowHTTP: c.AllowHTTP, AllowNets: c.AllowNets,
		AdminListen: c.AdminListen, UnknownVariables: unknown,
	}
	o.Keyring, o.KeyringError = c.keyring()
	report := doctor.Run(ctx, o)
	write := report.WriteText
	if c.JSON {
		write = report.WriteJSON
	}
	if err := write(env.stdout); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return c.verdict(&report)
}

// clientKeys returns the files with the keys of the exporter's certificate.
func clientKeys() []doctor.File {
	var files []doctor.File
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"} {
		if path := os.Getenv(name); path != "" {
			files = append(files, doctor.File{Variable: name, Path: path})
		}
	}
	return files
}

// verdict returns the exit status as an error: nil, 1 or 2.
func (c *doctorCheck) verdict(r *doctor.Report) error {
	switch {
	case r.Errors > 0:
		return statusError(exitErrors)
	case r.Warnings > 0 && c.Strict:
		return statusError(exitWarnings)
	}
	return nil
}
