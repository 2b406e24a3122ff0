package doctor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sealpost/sealpost/cmd/internal/app/units"
	"github.com/sealpost/sealpost/redisstore"
)

// minVersion is the first Redis that knows every command in use: SET with EXAT
// and HRANDFIELD came with 6.2.
var minVersion = [2]int{6, 2}

// testedVersion is what the tests run on.
const testedVersion = "7.0"

// Parts of the memory limit from which on there is a warning or an error.
const (
	memoryWarning = 0.60
	memoryError   = redisstore.FullAt
)

func checkReachable(ctx context.Context, p *patient) (Finding, error) {
	at := strings.Join(p.Addresses, ", ")
	err := p.Client.Ping(ctx).Err()
	switch {
	case err == nil:
		return fine("%s answers", at), nil
	case strings.HasPrefix(err.Error(), "WRONGPASS"), strings.HasPrefix(err.Error(), "NOAUTH"):
		return bad("correct user and password in SEALPOST_REDIS_URL", "%s refuses the password: %v", at, err), nil
	}
	return bad("start Redis, or correct SEALPOST_REDIS_URL; from the same machine: redis-cli -u <url> ping", "%s does not answer: %v", at, err), nil
}

func checkVersion(ctx context.Context, p *patient) (Finding, error) {
	servers, err := p.readServers(ctx)
	if err != nil {
		return Finding{}, err
	}
	var versions []string
	for i := range servers {
		versions = append(versions, servers[i].Info["redis_version"])
	}
	return judgeVersions(versions), nil
}

func judgeVersions(versions []string) Finding {
	for _, v := range versions {
		var major, minor int
		if n, _ := fmt.Sscanf(v, "%d.%d", &major, &minor); n != 2 {
			return doubtful("compare with the supported range by hand", "Redis does not tell its version; at least %d.%d is needed", minVersion[0], minVersion[1])
		}
		if major < minVersion[0] || major == minVersion[0] && minor < minVersion[1] {
			return bad("upgrade Redis", "Redis %s is too old: at least %d.%d is needed", v, minVersion[0], minVersion[1])
		}
	}
	return fine("Redis %s (at least %d.%d is needed, tests run on %s)", strings.Join(distinct(versions), ", "), minVersion[0], minVersion[1], testedVersion)
}

func checkRole(ctx context.Context, p *patient) (Finding, error) {
	servers, err := p.readServers(ctx)
	if err != nil {
		return Finding{}, err
	}
	for i := range servers {
		if role := servers[i].Info["role"]; role != "" && role != "master" {
			return bad("name the master in SEALPOST_REDIS_URL, or use redis+sentinel://", "this Redis is a %s: it accepts no writes, or forgets them", role), nil
		}
	}
	return fine("master, %d in all", len(servers)).with(map[string]any{"masters": len(servers)}), nil
}

func checkEviction(ctx context.Context, p *patient) (Finding, error) {
	servers, err := p.readServers(ctx)
	if err != nil {
		return Finding{}, err
	}
	for i := range servers {
		switch v := &servers[i]; {
		case v.Policy == "":
			return doubtful("make sure that maxmemory-policy is noeviction", "Redis does not tell its maxmemory-policy"), nil
		case v.Policy == "noeviction":
		case v.Max == 0:
			return doubtful("CONFIG SET maxmemory-policy noeviction", "maxmemory-policy is %s: as soon as maxmemory is set, events are lost", v.Policy), nil
		default:
			return bad("CONFIG SET maxmemory-policy noeviction, and in redis.conf", "maxmemory-policy is %s: a full Redis drops accepted events", v.Policy), nil
		}
	}
	return fine("maxmemory-policy is noeviction"), nil
}

func checkPersistence(ctx context.Context, p *patient) (Finding, error) {
	servers, err := p.readServers(ctx)
	if err != nil {
		return Finding{}, err
	}
	worst := fine("no Redis answers")
	for i := range servers {
		if f := judgePersistence(&servers[i]); i == 0 || worse(f.Status, worst.Status) {
			worst = f
		}
	}
	return worst, nil
}

func judgePersistence(v *redisstore.Server) Finding {
	const appendOnly = "CONFIG SET appendonly yes, appendfsync everysec or always, and in redis.conf"
	aof, saves := v.Info["aof_enabled"], v.Config["save"]
	switch {
	case aof == "":
		return doubtful("make sure that an append-only file is kept", "Redis does not tell how it keeps its data")
	case v.Info["aof_last_write_status"] == "err":
		return bad("look at the disk and the log of Redis", "the last write of the append-only file failed: Redis refuses writes until it succeeds")
	case v.Info["rdb_last_bgsave_status"] == "err":
		return bad("look at the disk, the memory and the log of Redis (vm.overcommit_memory)", "the last snapshot failed: by default Redis refuses writes until one succeeds")
	case aof != "1" && (v.Config == nil || saves != ""):
		return doubtful(appendOnly, "appendonly is off: what was accepted since the last snapshot is lost when Redis ends (save %q)", saves)
	case aof != "1":
		return bad(appendOnly, "Redis keeps nothing on disk: all accepted events are lost when it ends")
	case v.Info["aof_last_bgrewrite_status"] == "err":
		return doubtful("look at the disk, the memory and the log of Redis", "the last rewrite of the append-only file failed: it grows")
	case v.Config["appendfsync"] == "no":
		return doubtful("CONFIG SET appendfsync everysec", "appendfsync is no: half a minute of accepted events is lost when the machine of Redis dies")
	case v.Config["appendfsync"] == "always":
		return fine("append-only file, appendfsync always: nothing accepted is lost")
	case v.Config == nil:
		return fine("append-only file; Redis does not tell appendfsync")
	}
	return fine("append-only file, appendfsync %s: about a second is lost when the machine of Redis dies", v.Config["appendfsync"])
}

// checkTuning only gives advice: these settings cost time, no events.
func checkTuning(ctx context.Context, p *patient) (Finding, error) {
	servers, err := p.readServers(ctx)
	if err != nil {
		return Finding{}, err
	}
	const rewrite = 512 << 20 // bytes
	f := fine("no advice")
	var advice []string
	for i := range servers {
		config := servers[i].Config
		if config["rdbcompression"] == "yes" {
			advice = append(advice, "rdbcompression no")
		}
		if n, err := strconv.ParseInt(config["auto-aof-rewrite-min-size"], 10, 64); err == nil && n < rewrite && servers[i].Info["aof_enabled"] == "1" {
			advice = append(advice, "auto-aof-rewrite-min-size 512mb")
		}
	}
	if len(advice) > 0 {
		f.Detail = "Redis could spend less: bundles are compressed already, and the append-only file is rewritten often"
		f.Advice = "under load, " + strings.Join(distinct(advice), " and ") + " saved a third of the CPU time of Redis"
	}
	return f, nil
}

func checkMemory(ctx context.Context, p *patient) (Finding, error) {
	servers, err := p.readServers(ctx)
	if err != nil {
		return Finding{}, err
	}
	var fullest redisstore.Server
	for i := range servers {
		if i == 0 || servers[i].Fullness() > fullest.Fullness() {
			fullest = servers[i]
		}
	}
	const grow = "let senders drain it, raise maxmemory, or add masters"
	values := map[string]any{"used_bytes": fullest.Used, "limit_bytes": fullest.Limit}
	used := fmt.Sprintf("%s of %s are used (%.0f %%)", units.Bytes(fullest.Used), units.Bytes(fullest.Limit), 100*fullest.Fullness())
	f := fine("%s", used)
	switch {
	case fullest.Limit == 0:
		f = doubtful("watch the memory of Redis by other means", "Redis does not tell its memory: the gateway cannot stop before it is full")
	case fullest.Fullness() >= memoryError:
		f = bad(grow, "%s: from %.0f %% on new events are refused with 503", used, 100*memoryError)
	case fullest.Fullness() >= memoryWarning:
		f = doubtful(grow, "%s: from %.0f %% on new events are refused with 503", used, 100*memoryError)
	case fullest.Max == 0:
		f = doubtful("set maxmemory below what the machine can spare, with noeviction", "maxmemory is not set: %s of the machine's memory, which others need too", used)
	}
	return f.with(values), nil
}

func checkAccess(ctx context.Context, p *patient) (Finding, error) {
	for _, address := range p.Addresses {
		if p.TLS && p.Password || isLocal(address) {
			continue
		}
		switch {
		case !p.Password && !p.TLS:
			return doubtful("use rediss:// and a password: who reaches this Redis can read every payload and add API keys", "%s is reached over the network without password and TLS", address), nil
		case !p.Password:
			return doubtful("give Redis a password (requirepass or ACL) and put it into SEALPOST_REDIS_URL", "%s is reached over the network without password", address), nil
		}
		return doubtful("use rediss://: password and payloads travel in clear text", "%s is reached over the network without TLS", address), nil
	}
	if p.Password {
		return fine("%s", map[bool]string{true: "with password and TLS", false: "on this machine"}[p.TLS]), nil
	}
	if !p.dead {
		servers, err := p.readServers(ctx)
		if err != nil {
			return Finding{}, err
		}
		for i := range servers {
			if f := judgeBind(&servers[i]); f.Status != StatusOK {
				return f, nil
			}
		}
	}
	return fine("on this machine"), nil
}

// judgeBind judges who else reaches a Redis that we reached without a password.
// With protected-mode it turns others away itself.
func judgeBind(v *redisstore.Server) Finding {
	if v.Config["protected-mode"] != "no" {
		return fine("protected")
	}
	if v.Config["bind"] == "" {
		return openRedis("every address")
	}
	for address := range strings.FieldsSeq(v.Config["bind"]) {
		address = strings.TrimPrefix(address, "-") // of one that may be missing
		ip, err := netip.ParseAddr(address)
		if err != nil || !ip.IsLoopback() {
			return openRedis(address)
		}
	}
	return fine("bound to this machine")
}

func openRedis(address string) Finding {
	return bad("give Redis a password (requirepass or ACL) and put it into SEALPOST_REDIS_URL, or bind it to 127.0.0.1; CONFIG SET protected-mode yes at once",
		"Redis listens on %s without password and with protected-mode no: who reaches it can read every payload and add API keys", address)
}

// isLocal reports whether an address of Redis is on this machine: a Unix socket
// or a loopback address.
func isLocal(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return true // a path
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// worse reports whether a is a worse status than b.
func worse(a, b Status) bool {
	rank := map[Status]int{StatusOK: 0, StatusSkipped: 1, StatusWarning: 2, StatusError: 3}
	return rank[a] > rank[b]
}

// distinct returns the words without repetitions, in their order.
func distinct(words []string) []string {
	var out []string
	seen := make(map[string]bool)
	for _, w := range words {
		if !seen[w] {
			out = append(out, w)
			seen[w] = true
		}
	}
	return out
}
