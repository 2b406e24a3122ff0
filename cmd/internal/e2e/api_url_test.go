package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// refusedURLs are endpoint URLs that break a rule. Only public https is allowed.
func refusedURLs() map[string][]string {
	return map[string][]string{
		"scheme": {
			"http://crm.example.com/", "ftp://crm.example.com/", "file:///etc/passwd", "gopher://crm.example.com/", "javascript:alert(1)",
			"crm.example.com/hook", "//crm.example.com/hook", "/hook", "https:crm.example.com", "unix:///run/redis.sock", "://crm.example.com/",
		},
		"host missing":  {"", "https://", "https:///hook", "https://:443/", "https:/crm.example.com/"},
		"user":          {"https://user@crm.example.com/", "https://user:secret@crm.example.com/", "https://@crm.example.com/", "https://crm.example.com@127.0.0.1/"},
		"fragment":      {"https://crm.example.com/#x", "https://crm.example.com/hook#", "https://crm.example.com#@127.0.0.1/"},
		"port":          {"https://crm.example.com:0/", "https://crm.example.com:65536/", "https://crm.example.com:-1/", "https://crm.example.com:https/", "https://crm.example.com:00000000443443/"},
		"length":        {"https://crm.example.com/" + strings.Repeat("x", 2048-len("https://crm.example.com/")+1)},
		"text":          {"https://crm.example.com/a b", " https://crm.example.com/", "https://crm.example.com/\n", "https://crm.example.com/\tx", "https://crm.example.com\\@127.0.0.1/", "https://crm.example.com/\u007f"},
		"name":          {"https://-crm.example.com/", "https://crm..example.com/", "https://" + strings.Repeat("a", 64) + ".example.com/", "https://crm.example.com%00.evil.example/", "https://%31%32%37.0.0.1/", "https://*.example.com/"},
		"reserved name": {"https://localhost/", "https://LOCALHOST/", "https://localhost./", "https://a.localhost/", "https://intranet/", "https://printer.local/", "https://metadata.google.internal/", "https://1.0.0.127.in-addr.arpa/", "https://home.arpa/", "https://abc.onion/"},
		"IPv4": {
			"https://127.0.0.1/", "https://127.0.0.1:8443/", "https://127.255.255.254/", "https://10.0.0.1/", "https://172.16.0.1/", "https://172.31.255.255/", "https://192.168.1.1/",
			"https://169.254.169.254/latest/meta-data/", "https://100.64.0.1/", "https://0.0.0.0/", "https://255.255.255.255/", "https://224.0.0.1/", "https://240.0.0.1/", "https://198.18.0.1/",
			"https://192.0.2.1/", "https://198.51.100.1/", "https://203.0.113.1/", "https://192.88.99.1/", "https://168.63.129.16/", "https://127.0.0.1./",
		},
		"IPv4 spelled oddly": {
			"https://2130706433/", "https://017700000001/", "https://0x7f000001/", "https://0X7F000001/", "https://127.1/", "https://127.0.1/", "https://0177.0.0.1/", "https://0x7f.0.0.1/",
			"https://127.0.0.01/", "https://127.0.0.1.0/", "https://256.0.0.1/", "https://１２７.０.０.１/", "https://127。0。0。1/", "https://①②⑦.⓪.⓪.①/",
		},
		"IPv6": {
			"https://[::1]/", "https://[::]/", "https://[0:0:0:0:0:0:0:1]/", "https://[fc00::1]/", "https://[fd12:3456::1]/", "https://[fe80::1]/", "https://[fec0::1]/", "https://[ff02::1]/",
			"https://[2001:db8::1]/", "https://[100::1]/", "https://[3fff::1]/", "https://[5f00::1]/", "https://[fe80::1%25eth0]/", "https://[::1/", "https://::1/", "https://[127.0.0.1]/", "https://[1.2.3]/",
		},
		"IPv4 within IPv6": {
			"https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/", "https://[::ffff:a9fe:a9fe]/", "https://[::127.0.0.1]/", "https://[64:ff9b::7f00:1]/", "https://[64:ff9b::169.254.169.254]/",
			"https://[64:ff9b:1::7f00:1]/", "https://[2002:7f00:1::]/", "https://[2002:a9fe:a9fe::1]/", "https://[2001::1]/", "https://[2001:0:53aa:64c:0:fbff:80ff:fffe]/", "https://[::ffff:0:127.0.0.1]/",
		},
	}
}

// TestEndpointURLs creates and changes endpoints with URLs that break a rule,
// and with odd ones that do not.
func TestEndpointURLs(t *testing.T) {
	t.Parallel()
	s := newAPI(t, nil)
	acme := s.client("acme", "admin")
	e := acme.subscribe("https://crm.example.com/hook", "call.qualified")
	redis := s.redis.Client(t)
	before := contents(t, redis)
	for rule, urls := range refusedURLs() {
		for _, u := range urls {
			t.Run(rule+"/"+u[:min(len(u), 60)], func(t *testing.T) {
				c := acme.in(t)
				for _, r := range []*response{
					c.do(http.StatusUnprocessableEntity, "POST", "/api/v1/webhooks", `{"events":["call.qualified"],"url":`+encoded(t, u)+`}`),
					c.do(http.StatusUnprocessableEntity, "PATCH", "/api/v1/webhooks/"+e.ID, `{"url":`+encoded(t, u)+`}`),
				} {
					p := r.problem(t, http.StatusUnprocessableEntity, "invalid")
					if p.field() != "url" || p.Errors[0].Detail == "" {
						t.Errorf("the error is about %q, want url and a rule: %s", p.field(), r.body)
					}
				}
				unchanged(t, before, redis)
			})
		}
	}

	for given, stored := range map[string]string{
		"https://crm.example.com":                    "https://crm.example.com/",
		"HTTPS://CRM.Example.COM:443/Hook?A=b&c":     "https://crm.example.com/Hook?A=b&c",
		"https://crm.example.com./":                  "https://crm.example.com/",
		"https://crm.example.com:1/":                 "https://crm.example.com:1/",
		"https://crm.example.com:65535/":             "https://crm.example.com:65535/",
		"https://bücher.example.com/":                "https://xn--bcher-kva.example.com/",
		"https://xn--bcher-kva.example.com/":         "https://xn--bcher-kva.example.com/",
		"https://8.8.8.8/":                           "https://8.8.8.8/",
		"https://[2606:4700:4700:0:0:0:0:1111]:8/":   "https://[2606:4700:4700::1111]:8/",
		"https://crm.example.com/%2e%2e/a%2Fb":       "https://crm.example.com/%2e%2e/a%2Fb",
		"https://a_b.example.com/":                   "https://a_b.example.com/",
		"https://localhost.example.com/":             "https://localhost.example.com/",
		"https://crm.example.com/?token=a%20b+c%3D=": "https://crm.example.com/?token=a%20b+c%3D=",
		"https://crm.example.com/" + strings.Repeat("x", 2048-len("https://crm.example.com/")): "https://crm.example.com/" + strings.Repeat("x", 2048-len("https://crm.example.com/")),
	} {
		var made endpoint
		acme.do(http.StatusCreated, "POST", "/api/v1/webhooks", `{"events":["call.qualified"],"url":`+encoded(t, given)+`}`).decode(t, &made)
		if made.URL != stored {
			t.Errorf("%s is stored as %s, want %s", given, made.URL, stored)
		}
	}
}

// TestPermittedURLs shows what the operator's two settings let pass.
func TestPermittedURLs(t *testing.T) {
	t.Parallel()
	s := newAPI(t, map[string]string{"SEALPOST_ALLOW_HTTP": "true", "SEALPOST_ALLOW_NETS": "10.1.0.0/16"})
	acme := s.client("acme", "admin")
	for u, status := range map[string]int{
		"http://crm.example.com/": http.StatusCreated, "https://10.1.2.3/": http.StatusCreated, "http://billing/": http.StatusCreated, "http://billing.internal:8080/": http.StatusCreated,
		"https://10.2.0.1/": http.StatusUnprocessableEntity, "https://127.0.0.1/": http.StatusUnprocessableEntity, "ftp://crm.example.com/": http.StatusUnprocessableEntity, "http://169.254.169.254/": http.StatusUnprocessableEntity,
	} {
		acme.do(status, "POST", "/api/v1/webhooks", `{"events":["call.qualified"],"url":`+encoded(t, u)+`}`)
	}
}
