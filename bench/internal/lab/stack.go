package lab

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Options say what a Stack is made of.
type Options struct {
	Bin      string            // folder with the programs gateway and sender
	Senders  int               // sender processes
	Procs    int               // GOMAXPROCS of gateway and sender; 0: as they choose
	Roots    []byte            // PEM: certificates that senders trust; nil: the system's
	Settings map[string]string // beside the usual ones
	Redis    RedisOptions
	Replica  bool // Redis has one

	// Front returns the address at which a program, named gateway or sender0 and so
	// on, reaches the Redis at addr. Nil: addr itself.
	Front func(program, addr string) string
}

// Stack is a Sealpost under test: Redis, one gateway, some senders.
type Stack struct {
	Dir     string
	Redis   *Redis
	Replica *Redis        // nil: none
	Client  *redis.Client // to look at Redis, past any Front
	Gateway *Process
	Senders []*Process
	Beside  []*Process // what StartBeside started
	API     string     // the gateway's base URL, the same after a restart
	Key     string     // an API key of the organization bench
	Master  []byte     // the master key
	Keep    bool       // Dir, when the stack is closed

	o   Options
	env map[string]string
}

// StartStack starts a fresh one and returns when all are ready.
func StartStack(ctx context.Context, o Options) (*Stack, error) {
	s := &Stack{o: o}
	if err := s.start(ctx); err != nil {
		s.Keep = s.Dir != "" && ctx.Err() == nil // the error names a log
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context) (err error) {
	if s.Dir, err = os.MkdirTemp("", "sealpost-bench"); err != nil {
		return err
	}
	if s.Redis, err = StartRedis(s.Dir, s.o.Redis); err != nil {
		return err
	}
	s.Client = redis.NewClient(&redis.Options{Addr: s.Redis.Addr, DisableIdentity: true})
	if s.o.Replica {
		if err = s.startReplica(ctx); err != nil {
			return err
		}
	}
	s.Master = make([]byte, 32)
	rand.Read(s.Master)
	s.env = map[string]string{
		"SEALPOST_LISTEN": "127.0.0.1:0", "SEALPOST_ADMIN_LISTEN": "127.0.0.1:0",
		"SEALPOST_MASTER_KEYS": "k1:" + base64.StdEncoding.EncodeToString(s.Master),
		"SEALPOST_ALLOW_HTTP":  "true", "SEALPOST_ALLOW_NETS": "127.0.0.0/8", "SEALPOST_LOG_FORMAT": "json",
	}
	maps.Copy(s.env, s.o.Settings)
	if len(s.o.Roots) > 0 {
		file := filepath.Join(s.Dir, "roots.pem")
		if err = os.WriteFile(file, s.o.Roots, 0o600); err != nil {
			return err
		}
		s.env["SSL_CERT_FILE"] = file // what crypto/x509 reads in place of the system's roots
	}
	if s.o.Procs > 0 {
		s.env["GOMAXPROCS"] = fmt.Sprint(s.o.Procs)
	}
	if err = s.StartGateway(ctx); err != nil {
		return err
	}
	if err = s.StartSenders(ctx); err != nil {
		return err
	}
	s.Key, err = s.CreateKey(ctx, "bench")
	return err
}

// startReplica gives Redis a replica.
func (s *Stack) startReplica(ctx context.Context) (err error) {
	if s.Replica, err = StartRedis(filepath.Join(s.Dir, "replica"), s.o.Redis); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s.Redis.Addr)
	if err != nil {
		return err
	}
	client := redis.NewClient(&redis.Options{Addr: s.Replica.Addr, DisableIdentity: true})
	defer client.Close()
	return client.ReplicaOf(ctx, host, port).Err()
}

// environment returns the settings of a program.
func (s *Stack) environment(program string) map[string]string {
	addr := s.Redis.Addr
	if s.o.Front != nil {
		addr = s.o.Front(program, addr)
	}
	env := maps.Clone(s.env)
	env["SEALPOST_REDIS_URL"] = "redis://" + addr + "/0"
	return env
}

// StartGateway starts the gateway, once more if it has ended.
func (s *Stack) StartGateway(ctx context.Context) error {
	p, api, err := StartProgram(ctx, s.Dir, "gateway", filepath.Join(s.o.Bin, "gateway"), s.environment("gateway"), "serve")
	if err != nil {
		return err
	}
	s.Gateway, s.API = p, api
	s.env["SEALPOST_LISTEN"] = strings.TrimPrefix(api, "http://")
	return nil
}

// StartSenders starts all senders.
func (s *Stack) StartSenders(ctx context.Context) error {
	s.Senders = make([]*Process, s.o.Senders)
	for i := range s.Senders {
		if err := s.StartSender(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// StartSender starts sender i, once more if it has ended.
func (s *Stack) StartSender(ctx context.Context, i int) error {
	name := "sender" + strconv.Itoa(i)
	p, _, err := StartProgram(ctx, s.Dir, name, filepath.Join(s.o.Bin, "sender"), s.environment(name), "serve")
	if err == nil {
		s.Senders[i] = p
	}
	return err
}

// StartBeside starts one more gateway or sender, which none of the other methods
// touches but Close. Its name begins with what it is. A gateway has an address of its
// own, which is returned.
func (s *Stack) StartBeside(ctx context.Context, name string) (p *Process, api string, err error) {
	program, _, _ := strings.Cut(name, "-")
	env := s.environment(name)
	env["SEALPOST_LISTEN"] = "127.0.0.1:0"
	if p, api, err = StartProgram(ctx, s.Dir, name, filepath.Join(s.o.Bin, program), env, "serve"); p != nil {
		s.Beside = append(s.Beside, p)
	}
	return p, api, err
}

// StopSenders ends all senders in good order.
func (s *Stack) StopSenders() {
	for _, p := range s.Senders {
		if p != nil {
			p.Stop()
		}
	}
	s.Senders = nil
}

// CreateKey makes an API key of an organization.
func (s *Stack) CreateKey(ctx context.Context, organization string) (string, error) {
	out, err := s.command(ctx, "keys", "create", "--org", organization, "--scopes", "admin,publish", "--json")
	if err != nil {
		return "", err
	}
	var made struct{ Key string }
	err = json.Unmarshal(out, &made)
	return made.Key, err
}

func (s *Stack) command(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.o.Bin, "gateway"), args...)
	cmd.Env = []string{"SEALPOST_REDIS_URL=redis://" + s.Redis.Addr + "/0"}
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

// Close ends everything and removes Dir.
func (s *Stack) Close() {
	s.Stop()
	if s.Keep {
		fmt.Fprintln(os.Stderr, "logs and data are kept in", s.Dir)
		return
	}
	os.RemoveAll(s.Dir)
}

// Stop ends everything and leaves Dir as it is. What has ended stays so.
func (s *Stack) Stop() {
	s.StopSenders()
	for _, p := range s.Beside {
		p.Stop()
	}
	if s.Gateway != nil {
		s.Gateway.Stop()
	}
	if s.Client != nil {
		s.Client.Close()
	}
	for _, r := range []*Redis{s.Replica, s.Redis} {
		if r != nil && r.Process != nil {
			r.Stop()
		}
	}
}

// Processes returns what runs, for the accounts of CPU and memory.
func (s *Stack) Processes() []*Process {
	return slices.Concat([]*Process{s.Gateway, s.Redis.Process}, s.Senders, s.Beside)
}

// RedisInfo returns a number of Redis's INFO.
func (s *Stack) RedisInfo(ctx context.Context, section, field string) (int64, error) {
	text, err := s.Client.Info(ctx, section).Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			return strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
		}
	}
	return 0, fmt.Errorf("INFO %s does not tell %s", section, field)
}
