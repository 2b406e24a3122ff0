package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/redis/go-redis/v9"
)

// stack is a Sealpost under test: Redis, one gateway, some senders.
type stack struct {
	o       *options
	dir     string
	redis   *process
	replica *process      // of redis; nil: none
	client  *redis.Client // for INFO only
	gateway *process
	senders []*process
	env     map[string]string
	api     string
	key     string
	keep    bool // dir, when the stack is closed
}

// startStack starts a fresh one, whose senders trust roots (PEM) if there are any,
// with settings beside the usual ones.
func startStack(ctx context.Context, o *options, roots []byte, settings map[string]string) (s *stack, err error) {
	s = &stack{o: o}
	if s.dir, err = os.MkdirTemp("", "sealpost-bench"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	var addr string
	if s.redis, addr, err = startRedis(s.dir); err != nil {
		return nil, err
	}
	s.client = redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
	if err = s.makeDurable(ctx, settings["SEALPOST_DURABILITY"]); err != nil {
		return nil, err
	}
	var master [32]byte
	rand.Read(master[:])
	s.env = map[string]string{
		"SEALPOST_REDIS_URL": "redis://" + addr + "/0", "SEALPOST_LISTEN": "127.0.0.1:0", "SEALPOST_ADMIN_LISTEN": "127.0.0.1:0",
		"SEALPOST_MASTER_KEYS": "k1:" + base64.StdEncoding.EncodeToString(master[:]),
		"SEALPOST_ALLOW_HTTP":  "true", "SEALPOST_ALLOW_NETS": "127.0.0.0/8", "SEALPOST_LOG_FORMAT": "json",
	}
	maps.Copy(s.env, settings)
	if len(roots) > 0 {
		file := filepath.Join(s.dir, "roots.pem")
		if err = os.WriteFile(file, roots, 0o600); err != nil {
			return nil, err
		}
		s.env["SSL_CERT_FILE"] = file // what crypto/x509 reads in place of the system's roots
	}
	if o.procs > 0 {
		s.env["GOMAXPROCS"] = fmt.Sprint(o.procs)
	}
	if s.gateway, s.api, err = startProgram(ctx, s.dir, "gateway", filepath.Join(o.bin, "gateway"), s.env, "serve"); err != nil {
		return nil, err
	}
	if err = s.startSenders(ctx); err != nil {
		return nil, err
	}
	s.key, err = s.createKey(ctx, "bench")
	return s, err
}

// createKey makes an API key of an organization.
func (s *stack) createKey(ctx context.Context, organization string) (string, error) {
	out, err := s.command(ctx, "keys", "create", "--org", organization, "--scopes", "admin,publish", "--json")
	if err != nil {
		return "", err
	}
	var made struct{ Key string }
	err = json.Unmarshal(out, &made)
	return made.Key, err
}

func (s *stack) startSenders(ctx context.Context) error {
	for i := range s.o.senders {
		p, _, err := startProgram(ctx, s.dir, fmt.Sprintf("sender%d", i), filepath.Join(s.o.bin, "sender"), s.env, "serve")
		if err != nil {
			return err
		}
		s.senders = append(s.senders, p)
	}
	return nil
}

func (s *stack) stopSenders() {
	for _, p := range s.senders {
		p.stop()
	}
	s.senders = nil
}

func (s *stack) command(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.o.bin, "gateway"), args...)
	cmd.Env = []string{"SEALPOST_REDIS_URL=" + s.env["SEALPOST_REDIS_URL"]}
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("gateway %v: %w", args, err)
	}
	return out, nil
}

// close ends everything.
func (s *stack) close() {
	s.stopSenders()
	if s.gateway != nil {
		s.gateway.stop()
	}
	if s.client != nil {
		s.client.Close()
	}
	if s.replica != nil {
		s.replica.stop()
	}
	if s.redis != nil {
		s.redis.stop()
	}
	if s.keep {
		fmt.Fprintln(os.Stderr, "logs and data are kept in", s.dir)
		return
	}
	os.RemoveAll(s.dir)
}

// processes returns what runs, for the accounts of CPU and memory.
func (s *stack) processes() []*process {
	return append([]*process{s.gateway, s.redis}, s.senders...)
}

// api calls a gateway's management API.
type apiClient struct{ base, key string }

func (c apiClient) call(ctx context.Context, method, path string, body, answer any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if raw, err = io.ReadAll(resp.Body); err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, raw)
	}
	return json.Unmarshal(raw, answer)
}

// subscribe makes n endpoints for one event type at the URLs that url gives and
// returns their ids and signing keys.
func (c apiClient) subscribe(ctx context.Context, n int, url func(int) string, eventType string) (ids []string, keys [][]byte, err error) {
	for i := range n {
		var made struct {
			ID     string `json:"id"`
			Secret string `json:"signing_secret"`
		}
		err := c.call(ctx, "POST", "/api/v1/webhooks", map[string]any{"url": url(i), "events": []string{eventType}}, &made)
		if err != nil {
			return ids, nil, err
		}
		key, err := decodeSecret(made.Secret)
		if err != nil {
			return ids, nil, err
		}
		ids, keys = append(ids, made.ID), append(keys, key)
	}
	return ids, keys, nil
}

// unsubscribe removes endpoints again.
func (c apiClient) unsubscribe(ctx context.Context, ids []string) error {
	for _, id := range ids {
		var gone struct{ Deleted bool }
		if err := c.call(ctx, "DELETE", "/api/v1/webhooks/"+id, nil, &gone); err != nil {
			return err
		}
	}
	return nil
}
