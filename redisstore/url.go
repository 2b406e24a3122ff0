package redisstore

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// redisURL is a URL taken apart, as far as all forms have it in common.
type redisURL struct {
	scheme   string
	userinfo string // with its @, still escaped; "" for none
	hosts    []string
	path     string
	query    url.Values
}

// ParseURL reads the address of Redis:
//
//	redis://[user:password@]host:port/0             one server
//	rediss://…                                      the same over TLS
//	unix://[user:password@]/path/to/redis.sock?db=0 one server over a Unix socket
//	redis://host:port,host:port,…                   a Cluster
//	redis+sentinel://host:port,…/0?master=name      the master that Sentinels name
//
// User and password are Redis's; those of the Sentinels are the parameters
// sentinel_username and sentinel_password. Other parameters are go-redis's own,
// like pool_size. Errors repeat nothing of the URL, since it may hold a
// password.
func ParseURL(s string) (*redis.UniversalOptions, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return nil, errors.New("not a URL: it has to begin with redis://, rediss://, unix:// or redis+sentinel://")
	}
	if scheme == "unix" {
		o, err := redis.ParseURL(s)
		if err != nil {
			return nil, errors.New("not of the form unix:///path/to/redis.sock?db=0")
		}
		return universal(o), nil
	}
	base, isSentinel := strings.CutSuffix(scheme, "+sentinel")
	if base != "redis" && base != "rediss" {
		return nil, errors.New("unknown scheme: redis, rediss, unix and redis+sentinel are known")
	}
	defaultPort := "6379"
	if isSentinel {
		defaultPort = "26379"
	}
	u, err := splitURL(base, strings.ReplaceAll(rest, ","+scheme+"://", ","), defaultPort)
	if err != nil {
		return nil, err
	}
	if isSentinel {
		return u.sentinel()
	}
	return u.direct()
}

// splitURL takes apart what stands behind `://`.
func splitURL(scheme, rest, defaultPort string) (*redisURL, error) {
	u := &redisURL{scheme: scheme}
	rest, query, _ := strings.Cut(rest, "?")
	var err error
	if u.query, err = url.ParseQuery(query); err != nil {
		return nil, errors.New("what stands behind the ? is malformed")
	}
	authority := rest
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, u.path = rest[:i], rest[i:]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		u.userinfo, authority = authority[:i+1], authority[i+1:]
	}
	for i, address := range strings.Split(authority, ",") {
		host, err := hostPort(address, defaultPort)
		if err != nil {
			return nil, fmt.Errorf("address %d: %w", i+1, err)
		}
		u.hosts = append(u.hosts, host)
	}
	return u, nil
}

func hostPort(address, defaultPort string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]"), defaultPort
		if strings.Contains(host, ":") && !strings.HasPrefix(address, "[") {
			return "", errors.New("not of the form host:port; a / in a password has to be written as %2F")
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", errors.New("the port is not a number from 1 to 65535; a / in a password has to be written as %2F")
	}
	if host == "" {
		return "", errors.New("the host is missing")
	}
	return net.JoinHostPort(host, port), nil
}

// options lets go-redis read what a URL with a single host can say.
func (u *redisURL) options() (*redis.UniversalOptions, error) {
	if database := strings.Trim(u.path, "/"); database != "" {
		if n, err := strconv.Atoi(database); err != nil || n < 0 {
			return nil, errors.New("the path has to be the number of a database, like /0")
		}
	}
	one := u.scheme + "://" + u.userinfo + u.hosts[0] + u.path
	if len(u.query) > 0 {
		one += "?" + u.query.Encode()
	}
	o, err := redis.ParseURL(one)
	if err != nil {
		return nil, errors.New("malformed user, password or host, or an unknown parameter behind the ?")
	}
	return universal(o), nil
}

func (u *redisURL) direct() (*redis.UniversalOptions, error) {
	o, err := u.options()
	if err != nil {
		return nil, err
	}
	o.Addrs = u.hosts
	if len(u.hosts) > 1 {
		if o.DB != 0 {
			return nil, errors.New("several addresses are a Cluster, which has only database 0")
		}
		leaveServerName(o)
	}
	return o, nil
}

func (u *redisURL) sentinel() (*redis.UniversalOptions, error) {
	master := u.query.Get("master")
	if master == "" {
		return nil, errors.New("the parameter master is missing: the name under which the Sentinels know Redis")
	}
	username, password := u.query.Get("sentinel_username"), u.query.Get("sentinel_password")
	for _, name := range []string{"master", "sentinel_username", "sentinel_password"} {
		u.query.Del(name)
	}
	o, err := u.options()
	if err != nil {
		return nil, err
	}
	o.Addrs, o.MasterName = u.hosts, master
	o.SentinelUsername, o.SentinelPassword = username, password
	leaveServerName(o)
	return o, nil
}

// leaveServerName makes TLS expect of each server the name by which it is
// dialled, instead of the first one's.
func leaveServerName(o *redis.UniversalOptions) {
	if o.TLSConfig != nil {
		o.TLSConfig = o.TLSConfig.Clone()
		o.TLSConfig.ServerName = ""
	}
}

func universal(o *redis.Options) *redis.UniversalOptions {
	return &redis.UniversalOptions{
		Addrs: []string{o.Addr}, DB: o.DB, Protocol: o.Protocol, ClientName: o.ClientName,
		Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig,
		MaxRetries: o.MaxRetries, MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		PoolFIFO: o.PoolFIFO, PoolSize: o.PoolSize, PoolTimeout: o.PoolTimeout,
		MinIdleConns: o.MinIdleConns, MaxIdleConns: o.MaxIdleConns, MaxActiveConns: o.MaxActiveConns,
		MaxConcurrentDials: o.MaxConcurrentDials, PipelinePoolSize: o.PipelinePoolSize,
		PipelineReadBufferSize: o.PipelineReadBufferSize, PipelineWriteBufferSize: o.PipelineWriteBufferSize,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime, ConnMaxLifetimeJitter: o.ConnMaxLifetimeJitter,
	}
}
