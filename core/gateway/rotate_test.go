package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

func TestRotate(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 4, 27, 12, 0, 0, 0, time.UTC)
	f := setup(t, func(o *Options) { o.Now = func() time.Time { return now } })
	var created createdJSON
	f.call("POST", "/api/v1/webhooks", goodEndpoint).want(201, "").decode(&created)
	item := "/api/v1/webhooks/" + created.ID + "/rotate-secret"
	ref := core.EndpointRef{Organization: "acme", ID: created.ID}
	tests := []struct {
		name, body, warning string
		expiries            []time.Duration // of the older secrets, from now
	}{
		{"no body", ``, "The previous secret remains valid for 24 hours.", []time.Duration{24 * time.Hour}},
		{"empty object", " {}\n", "The previous secret remains valid for 24 hours.", []time.Duration{24 * time.Hour, 24 * time.Hour}},
		{"overlap", `{"overlap":"90m"}`, "The previous secret remains valid for 1 hour 30 minutes.", []time.Duration{90 * time.Minute, 24 * time.Hour, 24 * time.Hour}},
		{"a leak", `{"overlap":"0s"}`, "All previous secrets were retired at once.", nil},
		{"longest", `{"overlap":"168h"}`, "The previous secret remains valid for 168 hours.", []time.Duration{168 * time.Hour}},
	}
	last := created.SigningSecret
	for i, tt := range tests {
		began := time.Now()
		a := f.call("POST", item, tt.body).want(200, "")
		if time.Since(began) < core.ChangeDelay {
			t.Errorf("%s: answered before it was certain", tt.name)
		}
		if diff := cmp.Diff(rotatedMembers, members(t, a.body)); diff != "" {
			t.Errorf("%s: members (-want +got):\n%s", tt.name, diff)
		}
		var r rotatedJSON
		a.decode(&r)
		if r.ID != created.ID || r.URL != created.URL || r.SigningSecret == last || r.SigningSecretPrefix != r.SigningSecret[:12] ||
			r.Warning != saveWarning+" "+tt.warning || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s", tt.name, a.body)
		}
		last = r.SigningSecret
		secrets := f.store.endpoints[ref].Secrets
		if secrets[0].Version != uint32(i+2) || !secrets[0].ExpiresAt.IsZero() || secrets[0].Prefix != r.SigningSecretPrefix {
			t.Errorf("%s: current secret %+v", tt.name, secrets[0])
		}
		var expiries []time.Duration
		for _, s := range secrets[1:] {
			expiries = append(expiries, s.ExpiresAt.Sub(now))
		}
		if diff := cmp.Diff(tt.expiries, expiries); diff != "" {
			t.Errorf("%s: expiries (-want +got):\n%s", tt.name, diff)
		}
	}
	for range core.MaxRetiredSecrets - 1 {
		f.call("POST", item, "").want(200, "")
	}
	f.call("POST", item, "").want(409, core.CodeConflict)
	f.call("POST", item, `{"overlap":"0s"}`).want(200, "")
}

func TestRotateWithoutOverlapByConfiguration(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) { o.RotationOverlap = -1 })
	var created createdJSON
	f.call("POST", "/api/v1/webhooks", goodEndpoint).want(201, "").decode(&created)
	a := f.call("POST", "/api/v1/webhooks/"+created.ID+"/rotate-secret", "").want(200, "")
	if !strings.Contains(a.body, "retired at once") {
		t.Errorf("body %s", a.body)
	}
}

func TestSpell(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		time.Hour: "1 hour", 24 * time.Hour: "24 hours", 61 * time.Second: "1 minute 1 second", time.Hour + 2*time.Second: "1 hour 2 seconds",
		1500 * time.Millisecond: "1.5s",
	} {
		if got := spell(d); got != want {
			t.Errorf("spell(%v) = %q, want %q", d, got, want)
		}
	}
}
