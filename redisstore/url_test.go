package redisstore

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	type result struct {
		Addrs                            []string
		DB                               int
		User, Password                   string
		Master, SentinelUser, SentinelPW string
		TLS                              bool
		ServerName                       string
	}
	tests := []struct {
		url  string
		want result
	}{
		{url: "redis://127.0.0.1:6379/0", want: result{Addrs: []string{"127.0.0.1:6379"}}},
		{url: "redis://host", want: result{Addrs: []string{"host:6379"}}},
		{url: "redis://[::1]:7/3", want: result{Addrs: []string{"[::1]:7"}, DB: 3}},
		{url: "redis://[::1]", want: result{Addrs: []string{"[::1]:6379"}}},
		{url: "redis://u:p%2Fw%40x@host:1/2", want: result{Addrs: []string{"host:1"}, DB: 2, User: "u", Password: "p/w@x"}},
		{url: "redis://:p@ss@host:1", want: result{Addrs: []string{"host:1"}, Password: "p@ss"}},
		{url: "rediss://host:1", want: result{Addrs: []string{"host:1"}, TLS: true, ServerName: "host"}},
		{url: "unix:///run/redis.sock?db=4", want: result{Addrs: []string{"/run/redis.sock"}, DB: 4}},
		{url: "unix://u:p@/run/redis.sock", want: result{Addrs: []string{"/run/redis.sock"}, User: "u", Password: "p"}},
		{url: "redis://a:1,b:2,c", want: result{Addrs: []string{"a:1", "b:2", "c:6379"}}},
		{url: "redis://u:p@a:1,redis://b:2", want: result{Addrs: []string{"a:1", "b:2"}, User: "u", Password: "p"}},
		{url: "rediss://a:1,b:2/0", want: result{Addrs: []string{"a:1", "b:2"}, TLS: true}},
		{url: "redis+sentinel://s1,s2:2/5?master=main", want: result{Addrs: []string{"s1:26379", "s2:2"}, DB: 5, Master: "main"}},
		{
			url:  "rediss+sentinel://u:p@s1:1?master=main&sentinel_username=su&sentinel_password=sp&pool_size=3",
			want: result{Addrs: []string{"s1:1"}, User: "u", Password: "p", Master: "main", SentinelUser: "su", SentinelPW: "sp", TLS: true},
		},
	}
	for _, tt := range tests {
		t.Run(tt.url, func(t *testing.T) {
			t.Parallel()
			o, err := ParseURL(tt.url)
			noError(t, err)
			got := result{
				Addrs: o.Addrs, DB: o.DB, User: o.Username, Password: o.Password,
				Master: o.MasterName, SentinelUser: o.SentinelUsername, SentinelPW: o.SentinelPassword, TLS: o.TLSConfig != nil,
			}
			if o.TLSConfig != nil {
				got.ServerName = o.TLSConfig.ServerName
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("ParseURL (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseURLErrorsNameNoSecret(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"", "secret", "http://secret@host", "redis://", "redis://secret@", "redis://:secret@host:0", "redis://:secret@host:70000",
		"redis://:se/cret@host:1", "redis://:secret@host:port", "redis://:sec%zzret@host", "redis://:secret@ho st:1",
		"redis://:secret@host/x", "redis://:secret@host/1/2", "redis://:secret@host/-1", "redis://host?secret=1", "redis://host?password=secret", "redis://host?a=%zzsecret",
		"redis://::1:secret", "redis://:secret@a,b/1", "redis://:secret@a,b?db=1", "redis://:secret@a,,b",
		"unix://secret", "unix:///secret?x=secret", "redis+sentinel://:secret@host", "redis+sentinel://:secret@host?sentinel_password=secret",
		"redis+sentinel://:secret@host/x?master=m", "sentinel://:secret@host?master=m", "unix+sentinel://:secret@host?master=m",
	} {
		o, err := ParseURL(url)
		if err == nil {
			t.Errorf("ParseURL(%q) = %+v; want an error", url, o)
			continue
		}
		for _, part := range []string{"secret", "cret", "sec%", ":se", "\"se"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("the error about %q repeats %q: %v", url, part, err)
			}
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{"redis://u:p@a:1,b:2/0?pool_size=1", "redis+sentinel://s/1?master=m", "unix:///x?db=1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, url string) {
		o, err := ParseURL(url)
		if err == nil && len(o.Addrs) == 0 {
			t.Errorf("ParseURL(%q) names no address", url)
		}
	})
}
