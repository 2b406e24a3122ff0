package doctor

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/sign"
	"github.com/sealpost/sealpost/redisstore"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

// TestHealthy: of a Sealpost without fault nobody complains.
func TestHealthy(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.addEndpoint(f.o.Keyring)
	f.consume()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	sender := f.process("sender", os.Getpid())
	sender.Host = host
	f.announce(sender, 0)
	f.announce(f.process("gateway", 2), 0)
	f.o.KeysFile = filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(f.o.KeysFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := Run(t.Context(), f.o)
	for _, c := range r.Checks {
		// How long a round trip takes is a matter of this machine.
		if c.Status != StatusOK && c.Check != "redis.latency" || c.Advice != "" && c.Check != "redis.latency" {
			t.Errorf("%+v", c)
		}
	}
	i := slices.Index(Names(), "processes.agreement")
	if list, ok := r.Checks[i].Values["processes"].([]description); !ok || len(list) != 2 || list[0].Role != "gateway" || list[1].Host != host || list[1].Shards != 4 {
		t.Errorf("processes %+v", r.Checks[i].Values)
	}
	if len(r.Checks) != len(Names()) || r.Errors != 0 {
		t.Errorf("%d checks, %d errors", len(r.Checks), r.Errors)
	}
}

// fault is something that goes wrong, and what the doctor has to say about it.
type fault struct {
	name   string
	redis  []redistest.Option
	inject func(*fixture)
	check  string
	status Status
	says   string
}

func faults() []fault {
	return []fault{
		{"unreachable Redis", nil, func(f *fixture) { f.server.Kill() }, "redis.reachable", StatusError, "does not answer"},
		{"wrong password", nil, func(f *fixture) {
			f.set("requirepass", "right")
			f.connect("redis://:hunter2@" + f.server.Addr() + "/0")
		}, "redis.reachable", StatusError, "refuses the password: WRONGPASS"},
		{"no password", nil, func(f *fixture) {
			f.set("requirepass", "right")
			f.connect(f.server.URL())
		}, "redis.reachable", StatusError, "refuses the password: NOAUTH"},
		{"silent Redis", nil, func(f *fixture) {
			f.server.Pause()
			f.t.Cleanup(f.server.Resume)
		}, "redis.reachable", StatusError, "does not answer"},
		{"untold version", nil, func(f *fixture) { f.redis.Do(f.t.Context(), "ACL", "SETUSER", "default", "-info") }, "redis.version", StatusWarning, "does not tell"},
		{"a replica", nil, func(f *fixture) {
			master := redistest.Start(f.t)
			host, port, _ := strings.Cut(master.Addr(), ":")
			if err := f.redis.Do(f.t.Context(), "REPLICAOF", host, port).Err(); err != nil {
				f.t.Fatal(err)
			}
		}, "redis.role", StatusError, "slave"},
		{"evicting policy", nil, func(f *fixture) { f.set("maxmemory-policy", "allkeys-lru") }, "redis.eviction", StatusError, "allkeys-lru"},
		{"evicting policy without limit", nil, func(f *fixture) {
			f.set("maxmemory", "0")
			f.set("maxmemory-policy", "volatile-ttl")
		}, "redis.eviction", StatusWarning, "volatile-ttl"},
		{"no persistence", nil, func(f *fixture) { f.set("appendonly", "no") }, "redis.persistence", StatusError, "keeps nothing on disk"},
		{"snapshots only", nil, func(f *fixture) {
			f.set("appendonly", "no")
			f.set("save", "3600 1000000")
		}, "redis.persistence", StatusWarning, "since the last snapshot"},
		{"no fsync", nil, func(f *fixture) { f.set("appendfsync", "no") }, "redis.persistence", StatusWarning, "appendfsync is no"},
		{"failed snapshot", []redistest.Option{redistest.WithConfig("enable-protected-configs", "yes")}, func(f *fixture) {
			dir := filepath.Join(f.t.TempDir(), "gone")
			if err := os.Mkdir(dir, 0o700); err != nil {
				f.t.Fatal(err)
			}
			f.set("dir", dir)
			if err := os.Remove(dir); err != nil {
				f.t.Fatal(err)
			}
			f.redis.BgSave(f.t.Context())
			f.until("the snapshot failed", func() bool {
				return strings.Contains(f.redis.Info(f.t.Context(), "persistence").Val(), "rdb_last_bgsave_status:err")
			})
		}, "redis.persistence", StatusError, "snapshot failed"},
		{"fsync asked for, everysec given", nil, func(f *fixture) { f.o.Durability = "fsync" }, "redis.durability", StatusError, "appendfsync of Redis is everysec"},
		{"replica asked for, none given", nil, func(f *fixture) { f.o.Durability = "replica" }, "redis.durability", StatusError, "no replica follows"},
		{"costly defaults", nil, func(f *fixture) {
			f.set("rdbcompression", "yes")
			f.set("auto-aof-rewrite-min-size", "64mb")
		}, "redis.tuning", StatusOK, "could spend less"},
		{"no memory limit", nil, func(f *fixture) { f.set("maxmemory", "0") }, "redis.memory", StatusWarning, "maxmemory is not set"},
		{"little memory left", nil, func(f *fixture) { f.fill(0.65) }, "redis.memory", StatusWarning, "refused with 503"},
		{"hardly any memory left", nil, func(f *fixture) { f.fill(0.85) }, "redis.memory", StatusError, "refused with 503"},
		{"slow Redis", nil, func(f *fixture) { f.connect("redis://" + f.slow(latencyWarning) + "/0") }, "redis.latency", StatusWarning, "a round trip takes"},
		{"clock ahead", nil, func(f *fixture) { f.o.Now = shifted(5 * time.Second) }, "redis.clock", StatusWarning, "ahead of"},
		{"clock far behind", nil, func(f *fixture) { f.o.Now = shifted(-time.Hour) }, "redis.clock", StatusError, "behind"},
		{"Redis open to the network", nil, func(f *fixture) { f.o.Addresses = []string{"10.0.0.1:6379"} }, "redis.access", StatusWarning, "without password and TLS"},
		{"Redis in clear text", nil, func(f *fixture) { f.o.Addresses, f.o.Password = []string{"redis.internal:6379"}, true }, "redis.access", StatusWarning, "without TLS"},
		{"no master keys", nil, func(f *fixture) { f.o.Keyring, f.o.KeyringError = nil, errors.New("not given") }, "keys.master", StatusError, "not given"},
		{"a password as master key", nil, func(f *fixture) {
			ring, err := sign.ParseKeyring("k1:" + base64.StdEncoding.EncodeToString([]byte("Correct-Horse_Battery.Staple+42!")))
			if err != nil {
				f.t.Fatal(err)
			}
			f.o.Keyring = ring
		}, "keys.master", StatusError, "master key k1 is not random"},
		{"Redis open without password", nil, func(f *fixture) {
			f.set("bind", "127.0.0.1 -203.0.113.7") // which this machine does not have
			f.set("protected-mode", "no")
		}, "redis.access", StatusError, "listens on 203.0.113.7 without password"},
		{"world-readable key file", nil, func(f *fixture) { f.keysFile(0o644) }, "keys.file", StatusError, "mode 0644"},
		{"group-readable key file", nil, func(f *fixture) { f.keysFile(0o640) }, "keys.file", StatusWarning, "may read it (mode 0640)"},
		{"key file in an open folder", nil, func(f *fixture) {
			f.keysFile(0o600)
			if err := os.Chmod(filepath.Dir(f.o.KeysFile), 0o777); err != nil {
				f.t.Fatal(err)
			}
		}, "keys.file", StatusError, "another one in its place"},
		{"world-readable key of a certificate", nil, func(f *fixture) {
			f.keysFile(0o644)
			f.o.KeyFiles, f.o.KeysFile = []File{{"OTEL_EXPORTER_OTLP_CLIENT_KEY", f.o.KeysFile}}, ""
		}, "keys.file", StatusError, "OTEL_EXPORTER_OTLP_CLIENT_KEY: every user"},
		{"master keys in the environment", nil, nil, "keys.file", StatusOK, "not used"},
		{"group-writable key file", nil, func(f *fixture) { f.keysFile(0o660) }, "keys.file", StatusWarning, "mode 0660"},
		{"no key file", nil, func(f *fixture) { f.o.KeysFile = filepath.Join(f.t.TempDir(), "none") }, "keys.file", StatusError, "no such file"},
		{"wrong master key", nil, func(f *fixture) {
			for range 3 {
				f.addEndpoint(newKeyring(f.t, "k1"))
			}
			f.addEndpoint(f.o.Keyring)
		}, "keys.secrets", StatusError, "3 of 4 sampled endpoints do not fit the master keys (kid k1)"},
		{"unknown master key", nil, func(f *fixture) { f.addEndpoint(newKeyring(f.t, "older")) }, "keys.secrets", StatusError, "kid older"},
		{"no API keys", nil, func(f *fixture) { f.redis.Del(f.t.Context(), "sp:keys") }, "keys.api", StatusWarning, "nobody can publish"},
		{"no key to publish with", nil, func(f *fixture) {
			f.redis.Del(f.t.Context(), "sp:keys")
			f.addKey(core.ScopeRead)
		}, "keys.api", StatusWarning, "may publish"},
		{"backlog", nil, func(f *fixture) { f.enqueueOld(2 * time.Minute) }, "queue.backlog", StatusWarning, "has been waiting for 2m"},
		{"old backlog", nil, func(f *fixture) { f.enqueueOld(time.Hour) }, "queue.backlog", StatusError, "has been waiting for 1h"},
		{"paused queue", nil, func(f *fixture) { f.redis.Set(f.t.Context(), "asynq:{deliver-02}:paused", "1", 0) }, "queue.paused", StatusError, "deliver-02"},
		{"archived task", nil, func(f *fixture) {
			f.redis.ZAdd(f.t.Context(), "asynq:{deliver-01}:archived", redis.Z{Score: 1, Member: "x"})
		}, "queue.archived", StatusError, "1 in deliver-01"},
		{"task left by a sender", nil, func(f *fixture) {
			prefix, id := f.take()
			f.redis.ZAdd(f.t.Context(), prefix+"lease", redis.Z{Score: float64(time.Now().Add(-time.Hour).Unix()), Member: id})
		}, "queue.running", StatusError, "1 running tasks were left"},
		{"task without lease", nil, func(f *fixture) { f.take() }, "queue.running", StatusWarning, "have no lease"},
		{"task without data", nil, func(f *fixture) {
			prefix, id := f.take()
			f.redis.Del(f.t.Context(), prefix+"t:"+id)
		}, "queue.running", StatusError, "lost their data"},
		{"bundles gone", nil, func(f *fixture) {
			f.enqueue(3)
			f.redis.Del(f.t.Context(), f.keys("sp:*:bundle:*")[:2]...)
		}, "queue.bundles", StatusError, "2 of 3 waiting tasks"},
		{"backlogs that nobody works off", nil, func(f *fixture) { f.park(3, time.Minute) }, "backlogs.overdue", StatusError, "waiting for 1m0s to be looked at"},
		{"large backlogs", nil, func(f *fixture) {
			f.park(1, 0)
			f.redis.HSet(f.t.Context(), "sp:{drain-00}:totals", "bytes", 80<<20)
		}, "backlogs.size", StatusWarning, "1 deliveries (80.0 MiB) wait for 1 endpoint: 31 % of the memory of Redis"},
		{"no sender", nil, nil, "processes.senders", StatusError, "no sender is alive"},
		{"no gateway", nil, func(f *fixture) { f.announce(f.process("sender", 1), 0) }, "processes.gateways", StatusWarning, "no gateway"},
		{"two versions", nil, func(f *fixture) {
			old := f.process("sender", 1)
			old.Version = "0.0.1"
			f.announce(old, 0)
			f.announce(f.process("gateway", 2), 0)
		}, "processes.agreement", StatusWarning, "versions (0.0.1, " + core.Version + ")"},
		{"different shards", nil, func(f *fixture) {
			more := f.process("gateway", 1)
			more.Shards = 8
			f.announce(more, 0)
			f.announce(f.process("sender", 2), 0)
		}, "processes.agreement", StatusError, "deliver queues (4, 8)"},
		{"different master keys", nil, func(f *fixture) {
			other := f.process("gateway", 1)
			other.MasterKeys = append([]string{"k2:01234567"}, other.MasterKeys...)
			f.announce(other, 0)
			f.announce(f.process("sender", 2), 0)
		}, "processes.agreement", StatusError, "k2:01234567 is known to 1 of 2 processes"},
		{"different settings", nil, func(f *fixture) {
			other := f.process("gateway", 1)
			other.Settings["SEALPOST_ALLOW_HTTP"] = "true"
			f.announce(other, 0)
			f.announce(f.process("sender", 2), 0)
		}, "processes.agreement", StatusWarning, `SEALPOST_ALLOW_HTTP ("false", "true")`},
		{"doctor has other master keys", nil, func(f *fixture) {
			f.announce(f.process("gateway", 1), 0)
			f.o.Keyring = newKeyring(f.t, "k1")
		}, "processes.agreement", StatusWarning, "master keys of doctor"},
		{"sender of an older version", nil, func(f *fixture) { f.consume() }, "processes.agreement", StatusWarning, "1 process of another version"},
		{"a sender's clock", nil, func(f *fixture) {
			f.announce(f.process("gateway", 1), 0)
			f.announce(f.process("sender", 2), -time.Minute)
		}, "processes.clocks", StatusError, "the clock of sender 2 on host is"},
		{"http endpoints", nil, func(f *fixture) { f.o.AllowHTTP = true }, "settings.targets", StatusWarning, "this environment permits http://"},
		{"every network", nil, func(f *fixture) {
			f.o.AllowNets = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("0.0.0.0/0")}
		}, "settings.targets", StatusError, "0.0.0.0/0, which is wide open"},
		{"credentials of the cloud", nil, func(f *fixture) {
			p := f.process("sender", 7)
			p.Settings["SEALPOST_ALLOW_NETS"] = "192.168.1.0/24,169.254.0.0/16"
			f.announce(p, 0)
		}, "settings.targets", StatusError, "sender 7 on host allows deliveries to 169.254.0.0/16"},
		{"loopback", nil, func(f *fixture) { f.o.AllowNets = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }, "settings.targets", StatusWarning, "this machine itself"},
		{"admin on every interface", nil, func(f *fixture) { f.o.AdminListen = ":9090" }, "settings.admin", StatusWarning, "every interface"},
		{"admin in public", nil, func(f *fixture) {
			p := f.process("gateway", 7)
			p.AdminListen = "203.0.113.7:9090"
			f.announce(p, 0)
		}, "settings.admin", StatusError, "gateway 7 on host"},
		{"typing error", nil, func(f *fixture) { f.o.UnknownVariables = []string{"SEALPOST_CONCURENCY"} }, "settings.variables", StatusWarning, "SEALPOST_CONCURENCY"},
	}
}

func shifted(by time.Duration) func() time.Time {
	return func() time.Time { return time.Now().Add(by) }
}

// fill sets maxmemory so that Redis is full to a part.
func (f *fixture) fill(part float64) {
	f.t.Helper()
	servers, err := f.o.Store.Servers(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	f.set("maxmemory", strconv.FormatInt(int64(float64(servers[0].Used)/part), 10))
}

func (f *fixture) keysFile(mode os.FileMode) {
	f.t.Helper()
	f.o.KeysFile = filepath.Join(f.t.TempDir(), "keys")
	if err := errors.Join(os.WriteFile(f.o.KeysFile, nil, 0o600), os.Chmod(f.o.KeysFile, mode)); err != nil {
		f.t.Fatal(err)
	}
}

// enqueueOld stores a task that has been waiting for a while.
func (f *fixture) enqueueOld(age time.Duration) {
	f.t.Helper()
	f.enqueue(1)
	for _, key := range f.keys("asynq:*:t:*") {
		f.redis.HSet(f.t.Context(), key, "pending_since", time.Now().Add(-age).UnixNano())
	}
}

// park puts deliveries into the backlog of an endpoint, which nobody has looked at
// for a while.
func (f *fixture) park(n int, late time.Duration) {
	f.t.Helper()
	parking := core.Parking{Endpoint: core.EndpointRef{Organization: "acme", ID: core.NewEndpointID()}, Due: time.Now().Add(-late)}
	e := &core.Event{ID: "evt_1", Type: "call.received", Body: []byte("1"), AcceptedAt: time.Now()}
	for range n {
		parking.Deliveries = append(parking.Deliveries, core.Delivery{ID: core.NewDeliveryID(time.Now()), Organization: "acme", Endpoint: parking.Endpoint.ID, Event: e})
	}
	if _, err := f.o.Store.Park(f.t.Context(), []core.Parking{parking}); err != nil {
		f.t.Fatal(err)
	}
}

// TestFaults injects each fault into a healthy Sealpost.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range faults() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, tt.redis...)
			if tt.inject != nil {
				tt.inject(f)
			}
			r := Run(t.Context(), f.o)
			i := slices.IndexFunc(r.Checks, func(c Finding) bool { return c.Check == tt.check })
			got := r.Checks[i]
			if got.Status != tt.status || !strings.Contains(got.Detail, tt.says) || got.Advice == "" {
				t.Errorf("%+v\nwant %s, %q and what to do", got, tt.status, tt.says)
			}
			if r.Status != StatusError && worse(tt.status, r.Status) {
				t.Errorf("the report is %s", r.Status)
			}
			var text, machine bytes.Buffer
			if err := errors.Join(r.WriteText(&text), r.WriteJSON(&machine)); err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{"hunter2", "right@"} {
				if strings.Contains(text.String()+machine.String(), secret) {
					t.Errorf("the report shows %q", secret)
				}
			}
		})
	}
}

// TestEveryCheckHasAFault: no check is only ever seen to be content.
func TestEveryCheckHasAFault(t *testing.T) {
	t.Parallel()
	tested := make(map[string]bool)
	for _, f := range faults() {
		tested[f.check] = true
	}
	for _, name := range Names() {
		if !tested[name] {
			t.Errorf("no fault is injected for %s", name)
		}
	}
}

// TestWithoutRedis: what needs no Redis is checked all the same, the rest says
// why it is not.
func TestWithoutRedis(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.o.AllowHTTP = true
	f.server.Kill()
	r := Run(t.Context(), f.o)
	if r.Status != StatusError || r.Errors != 1 || r.Warnings != 1 {
		t.Errorf("%s with %d errors and %d warnings", r.Status, r.Errors, r.Warnings)
	}
	for i, c := range table() {
		if skipped := r.Checks[i].Status == StatusSkipped; skipped != c.needRedis {
			t.Errorf("%+v", r.Checks[i])
		}
	}
}

// TestRefusedCommands: a user who may not ask is told so, check by check.
func TestRefusedCommands(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if err := f.redis.Do(t.Context(), "ACL", "SETUSER", "default", "-hlen").Err(); err != nil {
		t.Fatal(err)
	}
	r := Run(t.Context(), f.o)
	for _, c := range r.Checks {
		refused := c.Check == "keys.api" || c.Check == "keys.secrets" || strings.HasPrefix(c.Check, "backlogs.")
		why := strings.Contains(c.Detail, "NOPERM") || strings.Contains(c.Detail, "can't run this command") // a script's words
		if says := strings.HasPrefix(c.Detail, "could not be checked: redis: ") && why; says != refused || refused && c.Status != StatusError {
			t.Errorf("%+v", c)
		}
	}
}

// TestJudgements covers what no server at hand can be made to say.
func TestJudgements(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		got  Finding
		want Status
	}{
		{"old Redis", judgeVersions([]string{"7.0.15", "6.0.16"}), StatusError},
		{"oldest Redis", judgeVersions([]string{"6.2.0"}), StatusOK},
		{"new Redis", judgeVersions([]string{"10.1"}), StatusOK},
		{"failed write", judgePersistence(server("aof_enabled", "1", "aof_last_write_status", "err")), StatusError},
		{"failed rewrite", judgePersistence(server("aof_enabled", "1", "aof_last_bgrewrite_status", "err")), StatusWarning},
		{"hidden configuration", judgePersistence(server("aof_enabled", "1")), StatusOK},
		{"no fsync", judgeDurability("fsync", "", &redisstore.Server{Config: map[string]string{"appendonly": "yes", "appendfsync": "everysec", "no-appendfsync-on-rewrite": "no"}}), StatusError},
		{"fsync unknown", judgeDurability("fsync", "", &redisstore.Server{}), StatusError},
		{"fsync", judgeDurability("fsync", "", &redisstore.Server{Config: map[string]string{"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}}), StatusOK},
		{"no replica", judgeDurability("replica", "", server("slave0", "ip=127.0.0.1,port=1,state=wait_bgsave")), StatusError},
		{"one replica", judgeDurability("replica", "", server("slave0", "ip=127.0.0.1,port=1,state=online")), StatusWarning},
		{"two replicas", judgeDurability("replica", "", server("slave0", "state=online", "slave1", "state=online")), StatusOK},
		{"nothing asked", judgeDurability("", "", &redisstore.Server{}), StatusOK},
		{"useless Redis", judgeLatency(latencyError, latencyError), StatusError},
		{"hiccup", judgeLatency(time.Millisecond, latencyError), StatusWarning},
		{"near", judgeLatency(time.Millisecond, latencyWarning), StatusOK},
		{"many deliveries wait", judgeBacklogs(&core.BacklogOverview{Deliveries: backlogsMany}, 0), StatusWarning},
		{"few deliveries wait", judgeBacklogs(&core.BacklogOverview{Deliveries: backlogsMany - 1, Bytes: 255}, 1024), StatusOK},
		{"a quarter of Redis waits", judgeBacklogs(&core.BacklogOverview{Deliveries: 1, Bytes: 256}, 1024), StatusWarning},
		{"bound to this machine", judgeBind(&redisstore.Server{Config: map[string]string{"protected-mode": "no", "bind": "127.0.0.1 -::1"}}), StatusOK},
		{"bound everywhere, protected", judgeBind(&redisstore.Server{Config: map[string]string{"protected-mode": "yes", "bind": "* -::*"}}), StatusOK},
		{"bound everywhere", judgeBind(&redisstore.Server{Config: map[string]string{"protected-mode": "no", "bind": "* -::*"}}), StatusError},
		{"bound by default", judgeBind(&redisstore.Server{Config: map[string]string{"protected-mode": "no", "bind": ""}}), StatusError},
		{"hidden binding", judgeBind(&redisstore.Server{}), StatusOK},
		{"private IPv6", judgeNet("", netip.MustParsePrefix("fc00::/7")), StatusOK},
		{"all of IPv6", judgeNet("", netip.MustParsePrefix("::/0")), StatusError},
		{"admin at a private address", judgeListener("", "10.1.2.3:9090"), StatusOK},
		{"admin of IPv6 in public", judgeListener("", "[2001:db8::1]:9090"), StatusError},
		{"admin of IPv6 everywhere", judgeListener("", "[::]:9090"), StatusWarning},
	} {
		if tt.got.Status != tt.want || (tt.want == StatusOK) != (tt.got.Advice == "") {
			t.Errorf("%s: %+v, want %s", tt.name, tt.got, tt.want)
		}
	}
}

// TestRender fixes both forms of a report.
func TestRender(t *testing.T) {
	t.Parallel()
	r := Report{
		Status: StatusError, Version: "1.2.3", CheckedAt: time.UnixMilli(1_764_000_000_123).UTC(), Errors: 1, Warnings: 1,
		Checks: []Finding{
			fine("all <well>").with(map[string]any{"p50_ms": 0.25}),
			doubtful("do this", "strange \x1b[31mthing"),
			bad("do that", "broken"),
			{Status: StatusSkipped, Detail: "needs Redis"},
		},
	}
	for i := range r.Checks {
		r.Checks[i].Check = "a.check" + strconv.Itoa(i)
	}
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	want := `ok     a.check0             all <well>
WARN   a.check1             strange ?[31mthing
                            → do this
ERROR  a.check2             broken
                            → do that
-      a.check3             needs Redis

1 error, 1 warning, 4 checks
`
	if text.String() != want {
		t.Errorf("text:\n%s\nwant:\n%s", text.String(), want)
	}
	var machine bytes.Buffer
	if err := r.WriteJSON(&machine); err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, machine.Bytes()); err != nil {
		t.Fatal(err)
	}
	wantJSON := `{"status":"error","version":"1.2.3","checked_at":"2025-11-24T16:00:00.123Z","errors":1,"warnings":1,"checks":[` +
		`{"check":"a.check0","status":"ok","detail":"all <well>","values":{"p50_ms":0.25}},` +
		`{"check":"a.check1","status":"warning","detail":"strange \u001b[31mthing","advice":"do this"},` +
		`{"check":"a.check2","status":"error","detail":"broken","advice":"do that"},` +
		`{"check":"a.check3","status":"skipped","detail":"needs Redis"}]}`
	if compact.String() != wantJSON {
		t.Errorf("JSON:\n%s\nwant:\n%s", compact.String(), wantJSON)
	}
}
