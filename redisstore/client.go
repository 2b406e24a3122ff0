package redisstore

import (
	"cmp"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Profile says what a Redis client is for. Clients of different profiles do not
// take connections away from one another.
type Profile int

// The profiles.
const (
	// ProfilePublish serves the way of an event into Redis, where every call has
	// to be over within the 1.5 s that a producer waits.
	ProfilePublish Profile = iota + 1
	// ProfileStore serves everything else that somebody waits for.
	ProfileStore
	// ProfileQueue serves asynq, which keeps many connections busy and whose
	// calls had better be late than fail.
	ProfileQueue
)

// dialTimeout bounds one connection attempt; there is one per command.
const dialTimeout = time.Second

// limits are what the profiles differ in.
type limits struct {
	connections int           // most at a time
	wait        time.Duration // for a free connection
	reply       time.Duration // for reading a reply, and for writing a command
}

func (p Profile) limits() limits {
	switch p {
	case ProfilePublish:
		return limits{connections: 16, wait: 500 * time.Millisecond, reply: time.Second}
	case ProfileQueue:
		return limits{connections: 64, wait: 3 * time.Second, reply: 3 * time.Second}
	default:
		return limits{connections: 32, wait: 500 * time.Millisecond, reply: time.Second}
	}
}

// Open returns a client with the bounds of a profile; what o sets itself, holds.
// It does not connect yet, and o stays as it is.
//
// Outside a Cluster a command is sent once: after a lost reply go-redis would send
// it again whether or not it may run twice. A Cluster's client does so all the
// same, MaxRedirects times: what must not run twice has to see for itself that it
// has run. Every step of a command is bounded by the
// profile, the handshake of a new connection too, and all of them by the
// command's context.
func Open(o *redis.UniversalOptions, p Profile) redis.UniversalClient {
	c, l := *o, p.limits()
	c.PoolSize = cmp.Or(c.PoolSize, l.connections)
	c.PoolTimeout = cmp.Or(c.PoolTimeout, l.wait)
	c.ReadTimeout = cmp.Or(c.ReadTimeout, l.reply)
	if p == ProfileQueue && c.ReadTimeout > 0 {
		c.ReadTimeout = max(c.ReadTimeout, l.reply) // polls travel with waits for a bell, of two seconds
	}
	c.WriteTimeout = cmp.Or(c.WriteTimeout, l.reply)
	c.DialTimeout = cmp.Or(c.DialTimeout, dialTimeout)
	c.DialerRetries = cmp.Or(c.DialerRetries, 1)
	if c.Dialer == nil && c.TLSConfig == nil {
		c.Dialer = dialer(c.DialTimeout)
	}
	c.MaxRetries = cmp.Or(c.MaxRetries, -1)
	c.ConnMaxLifetime = cmp.Or(c.ConnMaxLifetime, 30*time.Minute)
	c.ConnMaxLifetimeJitter = cmp.Or(c.ConnMaxLifetimeJitter, 5*time.Minute)
	c.ContextTimeoutEnabled = true
	// Neither the library's name nor notices about maintenance are worth a round
	// trip on every new connection, and not every server knows them.
	c.DisableIdentity = true
	c.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewUniversalClient(&c)
}
