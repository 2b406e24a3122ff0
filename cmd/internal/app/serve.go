package app

import (
	"context"
	"errors"

	"github.com/sealpost/sealpost/redisstore"
)

// serveGateway is `gateway serve`.
type serveGateway struct {
	redisSettings
	Listen string `env:"SEALPOST_LISTEN" default:":8080" help:"Address of the public API."`
	adminSettings
	keySettings
	apiSettings
	targetSettings
	logSettings
}

func (c *serveGateway) run(ctx context.Context, env environment) error {
	if err := c.apiSettings.validate(); err != nil {
		return err
	}
	ring, err := c.keyring()
	if err != nil {
		return err
	}
	log, end := c.logger(env.stderr)
	defer end()
	c.warnOfExposure(log)
	b, err := newBase("gateway", &c.redisSettings, &c.adminSettings, ring, 0, log)
	if err != nil {
		return err
	}
	address, err := b.startGateway(ctx, &c.redisSettings, c.Listen, &c.apiSettings, &c.targetSettings)
	if err != nil {
		return errors.Join(err, b.close())
	}
	b.announce(redisstore.Process{Role: "gateway", Listen: address}, &c.redisSettings, &c.apiSettings, &c.targetSettings)
	return b.wait(ctx)
}

// serveSender is `sender serve`.
type serveSender struct {
	redisSettings
	adminSettings
	keySettings
	deliverySettings
	targetSettings
	logSettings
}

func (c *serveSender) run(ctx context.Context, env environment) error {
	if err := c.deliverySettings.validate(); err != nil {
		return err
	}
	ring, err := c.keyring()
	if err != nil {
		return err
	}
	log, end := c.logger(env.stderr)
	defer end()
	c.warnOfExposure(log)
	b, err := newBase("sender", &c.redisSettings, &c.adminSettings, ring, c.DeadLetterRetention, log)
	if err != nil {
		return err
	}
	if err := b.startSender(ctx, &c.redisSettings, &c.deliverySettings, &c.targetSettings); err != nil {
		return errors.Join(err, b.close())
	}
	b.announce(redisstore.Process{Role: "sender", Concurrency: c.Concurrency}, &c.redisSettings, &c.deliverySettings, &c.targetSettings)
	return b.wait(ctx)
}
