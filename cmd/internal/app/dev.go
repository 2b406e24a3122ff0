package app

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/sign"
	"github.com/sealpost/sealpost/redisstore"
)

// dev is `gateway dev`: gateway, sender, Redis and a sample endpoint in one
// process, for a first look and for building against Sealpost.
type dev struct {
	Listen  string `env:"SEALPOST_LISTEN" default:"127.0.0.1:8080" help:"Address of the API."`
	DataDir string `env:"SEALPOST_DATA_DIR" help:"Where a child redis-server keeps its data and dev its master key (default: a folder of the user's cache)."`
	Memory  bool   `env:"SEALPOST_MEMORY" help:"Use the embedded Redis in memory even where redis-server is installed."`
	adminSettings
	apiSettings
	deliverySettings
	payloadSettings
	targetSettings
	logSettings
}

// masterKeyFile is where dev keeps the master key that it made up.
const masterKeyFile = "master.key"

// The organization and the sample endpoint of dev.
const (
	devOrganization = "dev"
	devDescription  = "Sample endpoint of gateway dev"
	devKeyLifetime  = 7 * 24 * time.Hour
)

func (c *dev) run(ctx context.Context, env environment) (err error) {
	if err := errors.Join(c.apiSettings.validate(), c.deliverySettings.validate(), c.payloadSettings.validate()); err != nil {
		return err
	}
	c.AllowHTTP = true
	c.AllowNets = append(c.AllowNets, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
	log, end := c.logger(env.stderr)
	defer end()

	dir, err := c.dataDir()
	if err != nil {
		return err
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer unlock()
	ring, err := devKeyring(filepath.Join(dir, masterKeyFile))
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx) // everything ends when Redis does
	defer cancel()
	outer := newGroup(log, cancel)
	defer func() { err = errors.Join(err, outer.stopAll()) }()
	server, err := startDevRedis(ctx, dir, c.Memory, log)
	if err != nil {
		return err
	}
	outer.start("redis", server.run)
	receiver, err := newSampleReceiver(env.stdout)
	if err != nil {
		return err
	}
	outer.start("sample endpoint", receiver.run)

	at := &redisSettings{RedisURL: server.url}
	b, err := newBase("dev", at, &c.adminSettings, ring, retention{deadLetters: c.DeadLetterRetention, payloads: c.PayloadRetention}, log)
	if err != nil {
		return err
	}
	address, err := b.startGateway(ctx, at, c.Listen, &c.apiSettings, &c.targetSettings)
	if err == nil {
		err = b.startSender(ctx, at, &c.deliverySettings, &c.targetSettings, c.PayloadRetention > 0)
	}
	var key string
	if err == nil {
		key, err = c.welcome(ctx, b, receiver)
	}
	if err != nil {
		return errors.Join(err, b.close())
	}
	b.announce(redisstore.Process{Role: "dev", Listen: address, Concurrency: c.Concurrency}, &c.apiSettings, &c.deliverySettings, &c.payloadSettings, &c.targetSettings)
	fmt.Fprintf(env.stdout, devGreeting, core.Version, server.description, filepath.Join(dir, masterKeyFile), "http://"+address, "http://"+b.admin.listener.Addr().String(), receiver.url(), key,
		"http://"+address, key, c.EventTypes[0], b.admin.listener.Addr(), server.url, filepath.Join(dir, masterKeyFile))
	return b.wait(ctx)
}

const devGreeting = `
Sealpost %s, everything in one process. Stop it with Ctrl-C.

  Redis     %s
  secrets   derived from a master key made up for you, in %s
  API       %s/api/v1
  admin     %s/metrics
  receiver  %s (subscribed to all event types)
  API key   %s

Publish an event; the line that comes back here is the receiver's:

  curl -sS %s/api/v1/events -H 'Authorization: Bearer %s' -d '{"type":"%s","data":{"hello":"world"}}'

To look at it with bin/gateway doctor, bin/gateway top --senders %s or bin/gateway keys list:

  export SEALPOST_REDIS_URL='%s' SEALPOST_MASTER_KEYS_FILE='%s'

`

// welcome makes an API key and subscribes the sample receiver anew, since its
// port and secret are new.
func (c *dev) welcome(ctx context.Context, b *base, receiver *sampleReceiver) (key string, err error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	key, record := newKey(devOrganization, "gateway dev", []core.Scope{core.ScopeAdmin, core.ScopePublish}, devKeyLifetime, now)
	hash, _ := core.HashAPIKey(key)
	if err := b.store.CreateAPIKey(ctx, hash, record); err != nil {
		return "", fmt.Errorf("create an API key: %w", err)
	}
	old, _, err := b.store.Endpoints(ctx, devOrganization)
	if err != nil {
		return "", fmt.Errorf("look for the sample endpoint: %w", err)
	}
	for _, e := range old {
		if e.Description != devDescription {
			continue
		}
		if err := errors.Join(b.store.DeleteEndpoint(ctx, e.Ref()), b.store.ForgetEndpoint(ctx, e.Ref())); err != nil {
			return "", fmt.Errorf("remove the sample endpoint of an earlier run: %w", err)
		}
	}
	e := core.Endpoint{
		ID: core.NewEndpointID(), Organization: devOrganization, URL: receiver.url(), URLRevision: 1,
		EventTypes: c.EventTypes, Description: devDescription, Enabled: true, CreatedAt: now, Revision: 1,
	}
	secret, kept := b.ring.NewSecret(e.Ref(), 1, now)
	e.Secrets = []core.Secret{kept}
	if err := receiver.trust(secret); err != nil {
		return "", err
	}
	if err := b.store.CreateEndpoint(ctx, &e, c.MaxEndpoints); err != nil {
		return "", fmt.Errorf("subscribe the sample endpoint: %w", err)
	}
	return key, nil
}

// dataDir returns where this dev keeps its files.
func (c *dev) dataDir() (string, error) {
	if c.DataDir != "" {
		return filepath.Abs(c.DataDir)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", badSetting("SEALPOST_DATA_DIR", "this user has no cache folder; name one: "+err.Error())
	}
	return filepath.Join(cache, "sealpost-dev"), nil
}

// devKeyring reads the master key of an earlier run, or makes one up: secrets of
// endpoints that a child redis-server remembers must stay derivable.
func devKeyring(file string) (*sign.Keyring, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		var raw [32]byte
		rand.Read(raw[:])
		text = []byte("dev:" + base64.StdEncoding.EncodeToString(raw[:]) + "\n")
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("master key of dev: %w", err)
	}
	return sign.ParseKeyring(strings.TrimSpace(string(text)))
}
