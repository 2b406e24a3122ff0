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
	payloadSettings
	targetSettings
	logSettings
}

func (c *serveGateway) run(ctx context.Context, env environment) error {
	if err := errors.Join(c.apiSettings.validate(), c.payloadSettings.validate()); err != nil {
		return err
	}
	ring, err := c.keyring()
	if err != nil {
		return err
	}
	log, end := c.logger(env.stderr)
	defer end()
	c.warnOfExposure(log)
	b, err := newBase("gateway", &c.redisSettings, &c.adminSettings, ring, retention{payloads: c.PayloadRetention}, log)
	if err != nil {
		return err
	}
	address, err := b.startGateway(ctx, &c.redisSettings, c.Listen, &c.apiSettings, &c.targetSettings)
	if err != nil {
		return errors.Join(err, b.close())
	}
	b.announce(redisstore.Process{Role: "gateway", Listen: address}, &c.redisSettings, &c.apiSettings, &c.payloadSettings, &c.targetSettings)
	return b.wait(ctx)
}

// serveSender is `sender serve`.
type serveSender struct {
	redisSettings
	adminSettings
	keySettings
	deliverySettings
	payloadSettings
	targetSettings
	logSettings
}

func (c *serveSender) run(ctx context.Context, env environment) error {
	if err := errors.Join(c.deliverySettings.validate(), c.payloadSettings.validate()); err != nil {
		return err
	}
	ring, err := c.keyring()
	if err != nil {
		return err
	}
	log, end := c.logger(env.stderr)
	defer end()
	c.warnOfExposure(log)
	b, err := newBase("sender", &c.redisSettings, &c.adminSettings, ring, retention{deadLetters: c.DeadLetterRetention, payloads: c.PayloadRetention}, log)
	if err != nil {
		return err
	}
	b.spareCores()
	if err := b.startSender(ctx, &c.redisSettings, &c.deliverySettings, &c.targetSettings, c.PayloadRetention > 0); err != nil {
		return errors.Join(err, b.close())
	}
	if c.PayloadRetention > 0 {
		// No payload is kept where there is no room for events: the store has to look.
		b.members.start("redis watch", b.store.Watch)
	}
	b.announce(redisstore.Process{Role: "sender", Concurrency: c.Concurrency}, &c.redisSettings, &c.deliverySettings, &c.payloadSettings, &c.targetSettings)
	return b.wait(ctx)
}
