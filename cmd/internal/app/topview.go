package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/sealpost/sealpost/cmd/internal/app/top"
	"github.com/sealpost/sealpost/core/queue"
	"github.com/sealpost/sealpost/redisstore"
)

// topView is `gateway top`.
type topView struct {
	redisSettings
	Gateways []string      `default:"127.0.0.1:9090" help:"Admin addresses of gateways, comma-separated."`
	Senders  []string      `default:"127.0.0.1:9091" help:"Admin addresses of senders, comma-separated."`
	Interval time.Duration `default:"1s" help:"Time between two screens, at least 200ms."`
	Once     bool          `help:"Print one snapshot and end."`
}

func (c *topView) run(ctx context.Context, env environment) (err error) {
	if err := c.validate(); err != nil {
		return err
	}
	client, err := c.open(redisstore.ProfileStore)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	store, err := redisstore.New(redisstore.Options{Client: client})
	if err != nil {
		return err
	}
	queues, err := queue.NewCollector(queue.Options{Client: client, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	o := top.Options{
		Gateways: c.Gateways, Senders: c.Senders, Store: store, Queues: queues,
		Interval: c.Interval, Once: c.Once, Out: env.stdout,
	}
	if out, ok := env.stdout.(*os.File); ok && !c.Once && top.IsTerminal(out) {
		if o.Terminal, err = top.OpenTerminal(os.Stdin, out); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, o.Terminal.Close()) }()
	}
	return top.Run(ctx, o)
}

func (c *topView) validate() error {
	for flag, addresses := range map[string][]string{"--gateways": c.Gateways, "--senders": c.Senders} {
		for _, address := range addresses {
			if _, _, err := net.SplitHostPort(address); err != nil {
				return badSetting(flag, fmt.Sprintf("%q is not an address like 127.0.0.1:9090", address))
			}
		}
	}
	if n := len(c.Gateways) + len(c.Senders); n > top.MaxAddresses {
		return badSetting("--gateways", fmt.Sprintf("%d addresses with those of --senders are more than %d", n, top.MaxAddresses))
	}
	if c.Interval < top.MinInterval {
		return badSetting("--interval", fmt.Sprintf("must be at least %v", top.MinInterval))
	}
	return nil
}
