package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/redisstore"
)

// keyTimeout bounds a key command.
const keyTimeout = 10 * time.Second

// keyCommands keep the API keys.
type keyCommands struct {
	Create keysCreate `cmd:"" help:"Create a key and print it, once."`
	List   keysList   `cmd:"" help:"List the keys, without the keys themselves."`
	Revoke keysRevoke `cmd:"" help:"Revoke a key by its id; it stops working within two seconds."`
}

type keysCreate struct {
	redisSettings
	Org     string   `required:"" help:"Organization: 1-64 of a-z 0-9 _ -."`
	Scopes  string   `required:"" help:"Comma-separated: read, admin (includes read), publish."`
	Name    string   `help:"What the key is for."`
	Expires lifetime `help:"Lifetime, like 90d or 12h (default: never expires)."`
	JSON    bool     `name:"json" help:"As JSON."`
}

func (c *keysCreate) run(ctx context.Context, env environment) error {
	if !core.ValidOrganization(c.Org) {
		return badSetting("--org", "must be 1-64 of a-z 0-9 _ -")
	}
	scopes, err := core.ParseScopes(c.Scopes)
	if err != nil {
		return badSetting("--scopes", err.Error())
	}
	if len(c.Name) > 100 {
		return badSetting("--name", "longer than 100 bytes")
	}
	key, record := newKey(c.Org, c.Name, scopes, time.Duration(c.Expires), time.Now())
	hash, _ := core.HashAPIKey(key)
	err = c.withStore(ctx, func(ctx context.Context, store *redisstore.Store) error {
		return store.CreateAPIKey(ctx, hash, record)
	})
	if err != nil {
		return fmt.Errorf("create the key: %w", err)
	}
	if c.JSON {
		return json.NewEncoder(env.stdout).Encode(struct {
			Key string `json:"key"`
			core.APIKey
		}{key, record})
	}
	// The key alone on standard output, so that KEY=$(gateway keys create …) works.
	fmt.Fprintf(env.stderr, "This is the key %s of %s (%s). It is shown only now: store it safely.\n", record.ID, c.Org, c.Scopes)
	_, err = fmt.Fprintln(env.stdout, key)
	return err
}

// newKey returns a fresh key and its record. A lifetime of 0 means for ever.
func newKey(org, name string, scopes []core.Scope, life time.Duration, now time.Time) (string, core.APIKey) {
	now = now.UTC().Truncate(time.Millisecond)
	key := core.NewAPIKey()
	record := core.APIKey{ID: core.NewKeyID(now), Organization: org, Name: name, Scopes: scopes, Hint: core.APIKeyHint(key), CreatedAt: now}
	if life > 0 {
		record.ExpiresAt = now.Add(life)
	}
	return key, record
}

type keysList struct {
	redisSettings
	Org  string `help:"Only this organization's."`
	JSON bool   `name:"json" help:"As JSON."`
}

func (c *keysList) run(ctx context.Context, env environment) error {
	var keys []core.APIKey
	err := c.withStore(ctx, func(ctx context.Context, store *redisstore.Store) (err error) {
		keys, err = store.APIKeys(ctx, c.Org)
		return err
	})
	if err != nil {
		return fmt.Errorf("list the keys: %w", err)
	}
	if c.JSON {
		return json.NewEncoder(env.stdout).Encode(map[string]any{"data": keys})
	}
	table := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tORGANIZATION\tSCOPES\tKEY\tCREATED\tEXPIRES\tNAME")
	for _, k := range keys {
		expires := "never"
		if !k.ExpiresAt.IsZero() {
			expires = k.ExpiresAt.Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s…\t%s\t%s\t%s\n", k.ID, k.Organization, joinScopes(k.Scopes), k.Hint, k.CreatedAt.Format(time.RFC3339), expires, k.Name)
	}
	return table.Flush()
}

func joinScopes(scopes []core.Scope) string {
	words := make([]string, len(scopes))
	for i, s := range scopes {
		words[i] = string(s)
	}
	return strings.Join(words, ",")
}

type keysRevoke struct {
	redisSettings
	ID string `arg:"" help:"The key's id (key_…), as list shows it."`
}

func (c *keysRevoke) run(ctx context.Context, env environment) error {
	err := c.withStore(ctx, func(ctx context.Context, store *redisstore.Store) error {
		return store.RevokeAPIKey(ctx, c.ID)
	})
	if err != nil {
		return fmt.Errorf("revoke the key: %w", err)
	}
	_, err = fmt.Fprintf(env.stdout, "revoked %s; it stops working within two seconds\n", c.ID)
	return err
}

// withStore opens Redis for one command.
func (s *redisSettings) withStore(ctx context.Context, do func(context.Context, *redisstore.Store) error) error {
	client, err := s.open(redisstore.ProfileStore)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	store, err := redisstore.New(redisstore.Options{Client: client})
	if err != nil {
		return errors.Join(err, client.Close())
	}
	err = do(ctx, store)
	if core.CodeOf(err) == core.CodeUnavailable {
		err = fmt.Errorf("%w (start Redis, or correct SEALPOST_REDIS_URL)", err)
	}
	return errors.Join(err, client.Close())
}

// open returns a client of Redis. It does not connect yet.
func (s *redisSettings) open(profile redisstore.Profile) (redis.UniversalClient, error) {
	options, err := redisstore.ParseURL(s.RedisURL)
	if err != nil {
		return nil, badSetting("SEALPOST_REDIS_URL", err.Error())
	}
	return redisstore.Open(options, profile), nil
}

// lifetime is a duration that may be written in days.
type lifetime time.Duration

// UnmarshalText reads durations like 90d, 12h and 30m.
func (l *lifetime) UnmarshalText(text []byte) error {
	s := string(text)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > 36500 {
			return fmt.Errorf("%q is not a lifetime like 90d", s)
		}
		*l = lifetime(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not a lifetime like 90d", s)
	}
	*l = lifetime(d)
	return nil
}
