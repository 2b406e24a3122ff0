package app

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/announce"
	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/core/gateway"
	"github.com/sealpost/sealpost/core/metric"
	"github.com/sealpost/sealpost/core/publish"
	"github.com/sealpost/sealpost/core/queue"
	"github.com/sealpost/sealpost/core/replay"
	"github.com/sealpost/sealpost/core/sender"
	"github.com/sealpost/sealpost/core/sign"
	"github.com/sealpost/sealpost/core/trace"
	"github.com/sealpost/sealpost/core/trial"
	"github.com/sealpost/sealpost/redisstore"
)

// base is what both halves of Sealpost stand on: one Redis, one registry, one
// log. `gateway dev` runs both halves on one base.
type base struct {
	log      *slog.Logger
	registry *prometheus.Registry
	metrics  prometheus.Registerer // the registry, for everything that has metrics
	ring     *sign.Keyring
	redis    redis.UniversalClient // for everything but asynq's servers
	store    *redisstore.Store
	producer *queue.Producer
	admin    *admin
	own      []netip.AddrPort // where this process and Redis are
	tracer   core.Tracer      // nil: nothing is traced
	cores    *cores           // nil: all of them, always
	members  *group
	closers  []func() error // run after all members are gone, last first
}

// retention says how long the store keeps what is over; 0 is its default, which for
// payloads is not to keep them.
type retention struct{ deadLetters, payloads time.Duration }

// newBase opens Redis, without waiting for it: a process that starts before its
// Redis says so in /readyz. It binds the admin listener and starts what both
// halves need. On an error nothing stays behind.
func newBase(role string, at *redisSettings, admin *adminSettings, ring *sign.Keyring, keep retention, log *slog.Logger) (b *base, err error) {
	redis.SetLogger(redisLog{log})
	b = &base{log: log, registry: newRegistry(role), ring: ring, members: newGroup(log, func() {})}
	b.metrics = b.registry
	if admin.NativeHistograms {
		b.metrics = metric.Native(b.registry)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.redis, err = b.open(at, redisstore.ProfileStore); err != nil {
		return b, err
	}
	durability := redisstore.Durability(at.Durability)
	if err := durability.Valid(b.redis); err != nil {
		return b, badSetting("SEALPOST_DURABILITY", err.Error())
	}
	confirmed := b.redis
	if durability != "" && durability != redisstore.DurabilityAsync {
		if confirmed, err = b.openConfirmed(at, redisstore.ProfileStore); err != nil {
			return b, err
		}
	}
	b.store, err = redisstore.New(redisstore.Options{
		Client: b.redis, Durability: durability, Confirmed: confirmed,
		Registerer: b.metrics, Logger: log, DeadLetterRetention: keep.deadLetters, PayloadRetention: keep.payloads,
	})
	if err != nil {
		return b, err
	}
	publishing, err := b.openConfirmed(at, redisstore.ProfilePublish)
	if err != nil {
		return b, err
	}
	b.producer, err = queue.NewProducer(queue.ProducerOptions{Options: b.queueOptions(publishing), Keeping: redisstore.Keeping{}, VersionKey: redisstore.VersionKey})
	if err != nil {
		return b, err
	}
	// Every process tells of the queues and backlogs: without a sender somebody still
	// has to.
	if _, err := queue.NewCollector(b.queueOptions(b.redis)); err != nil {
		return b, err
	}
	if err := b.metrics.Register(redisstore.NewBacklogCollector(b.store)); err != nil {
		return b, err
	}
	b.admin, err = newAdmin(admin.AdminListen, b.registry, log, readyCheck{name: "redis", check: b.store.Check})
	if err != nil {
		return b, err
	}
	b.members.start("admin listener", b.admin.run)
	log.Info("admin listening", "addr", b.admin.listener.Addr().String())
	if err = b.startTracing(role); err != nil {
		return b, err
	}
	log.Info("master keys", "fingerprints", ring.Fingerprints())
	b.lookAround()
	return b, nil
}

// lookAround says at the start what the operator should know at once.
func (b *base) lookAround() {
	if unknown, err := unknownVariables(os.Environ()); err == nil && len(unknown) > 0 {
		b.log.Warn("unknown variables in the environment: typing errors?", "variables", unknown)
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	if err := b.store.Check(ctx); err != nil {
		b.log.Warn("redis is not ready; going on, /readyz tells when it is", "error", err)
	}
}

func (b *base) queueOptions(client redis.UniversalClient) queue.Options {
	return queue.Options{Client: client, Registerer: b.metrics, Logger: b.log}
}

// startTracing starts the export of spans if the environment asks for it.
func (b *base) startTracing(role string) error {
	collector, wanted, err := trace.Configured()
	var setting *trace.SettingError
	switch {
	case errors.As(err, &setting):
		return badSetting(setting.Variable, setting.Problem)
	case err != nil || !wanted:
		return err
	}
	tracer, err := trace.New(trace.Options{Service: "sealpost-" + role, Registerer: b.metrics, Logger: b.log})
	if err != nil {
		return err
	}
	b.tracer = tracer
	b.members.start("tracing", tracer.Run)
	b.log.Info("tracing", "collector", collector)
	return nil
}

// open returns a client of Redis that is closed with the base.
func (b *base) open(at *redisSettings, profile redisstore.Profile) (redis.UniversalClient, error) {
	client, err := at.open(profile)
	if err != nil {
		return nil, err
	}
	b.closers = append(b.closers, client.Close)
	if err := redisstore.Instrument(client, profile, b.metrics); err != nil {
		return nil, err
	}
	return client, nil
}

// openConfirmed is open for what must not get lost once it has been confirmed.
func (b *base) openConfirmed(at *redisSettings, profile redisstore.Profile) (redis.UniversalClient, error) {
	client, err := b.open(at, profile)
	if err != nil {
		return nil, err
	}
	return client, redisstore.Confirm(client, redisstore.Durability(at.Durability))
}

// wait runs until ctx ends or a member fails, then stops everything in the
// reverse order of its start.
func (b *base) wait(ctx context.Context) error {
	err := errors.Join(b.members.wait(ctx, b.admin.drain), b.close())
	b.log.Info("stopped")
	return err
}

// close stops what runs and releases what is open.
func (b *base) close() error {
	errs := []error{b.members.stopAll()}
	for i := len(b.closers) - 1; i >= 0; i-- {
		errs = append(errs, b.closers[i]())
	}
	b.closers = nil
	return errors.Join(errs...)
}

// startGateway starts the accepting half and returns the API's address.
func (b *base) startGateway(ctx context.Context, at *redisSettings, listen string, api *apiSettings, targets *targetSettings) (address string, err error) {
	listener, err := bind("SEALPOST_LISTEN", listen)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, listener.Close())
		}
	}()
	own, err := ownAddresses(ctx, at.RedisURL, b.admin.listener.Addr().String(), listener.Addr().String())
	if err != nil {
		return "", err
	}
	// The sender's client has the metrics; a test is no delivery.
	client, err := egress.New(egress.Options{AllowHTTP: targets.AllowHTTP, AllowNets: targets.AllowNets, DNSServers: targets.DNSServers, DenyAddrs: own})
	if err != nil {
		return "", err
	}
	b.closers = append(b.closers, func() error { client.Close(); return nil })
	publisher, err := publish.New(publish.Options{
		Store: b.store, Queue: b.producer, Unmoved: b.producer, Backlog: b.store, Accepting: b.store.Accepting, Quota: api.quota(), Tracer: b.tracer, Registerer: b.metrics, Logger: b.log,
	})
	if err != nil {
		return "", err
	}
	policy := egress.URLPolicy{AllowHTTP: targets.AllowHTTP, AllowNets: targets.AllowNets}
	server, err := gateway.New(gateway.Options{
		Listener: listener, Store: b.store, Keys: b.store, Publisher: publisher, Keyring: b.ring,
		Announcer:       announce.New(b.store, b.producer, nil),
		Tester:          trial.New(client, b.store, b.ring, nil),
		CanonicalURL:    func(raw string) (string, error) { return egress.CanonicalURL(raw, policy) },
		EventTypes:      core.EventTypes(api.EventTypes),
		MaxPayload:      int(api.MaxPayload),
		MaxEndpoints:    api.MaxEndpoints,
		Quota:           api.quota(),
		RotationOverlap: api.overlap(),
		Tracer:          b.tracer,
		Registerer:      b.metrics, Logger: b.log,
	})
	if err != nil {
		return "", err
	}
	b.keepOff(ctx, client, own)
	b.members.start("redis watch", b.store.Watch)
	b.members.start("publisher", publisher.Run)
	b.members.start("api", server.Run)
	b.log.Info("api listening", "addr", server.Addr().String())
	return server.Addr().String(), nil
}

// abortMargin keeps the last attempts from being cut off: the consumer gives up
// on its handlers a little before its time is over.
const abortMargin = time.Second

// startSender starts the delivering half; keep has it keep what it delivered.
func (b *base) startSender(ctx context.Context, at *redisSettings, delivery *deliverySettings, targets *targetSettings, keep bool) error {
	own, err := ownAddresses(ctx, at.RedisURL, b.admin.listener.Addr().String())
	if err != nil {
		return err
	}
	client, err := egress.New(egress.Options{
		AllowHTTP: targets.AllowHTTP, AllowNets: targets.AllowNets, DNSServers: targets.DNSServers, DenyAddrs: own, Registerer: b.metrics,
	})
	if err != nil {
		return err
	}
	b.closers = append(b.closers, func() error { client.Close(); return nil })
	options := sender.Options{
		Store: b.store, Queue: b.producer, Client: client, Keyring: b.ring,
		Schedule: delivery.schedule(), DeliveryTimeout: delivery.DeliveryTimeout, Concurrency: delivery.Concurrency,
		PerEndpoint:      max(1, min(sender.DefaultPerEndpoint, delivery.Concurrency/2)), // never all slots for one
		BacklogRetention: delivery.BacklogRetention, KeepDelivered: keep, DisableAfter: delivery.DisableAfter,
		Announcer: announce.New(b.store, b.producer, nil),
		Tracer:    b.tracer, HideTrace: delivery.HideTrace,
		Registerer: b.metrics, Logger: b.log,
	}
	if b.cores != nil {
		options.Watcher = b.cores
	}
	deliverer, err := sender.New(options)
	if err != nil {
		return err
	}
	queueClient, err := b.open(at, redisstore.ProfileQueue)
	if err != nil {
		return err
	}
	consumer, err := queue.NewConsumer(queue.ConsumerOptions{
		Options: b.queueOptions(queueClient), Handler: deliverer.Handle, OnStop: deliverer.Drain,
		ShutdownTimeout: delivery.ShutdownTimeout + abortMargin,
	})
	if err != nil {
		return err
	}
	b.keepOff(ctx, client, own)
	b.admin.serveTop(deliverer.Top)
	b.members.start("trouble report", deliverer.Report)
	b.members.start("backlogs", deliverer.Run)
	b.members.start("recoveries", replay.New(b.store, b.log, nil).Run)
	b.members.start("queue", consumer.Run)
	b.log.Info("sender ready", "concurrency", delivery.Concurrency, "delivery_timeout", delivery.DeliveryTimeout.String())
	return nil
}
