package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/core"
)

// Bounds of the samples.
const (
	sampledKeys          = 200 // API keys, which name organizations
	sampledOrganizations = 50
	sampledEndpoints     = 10 // of each organization
)

func checkMasterKeys(_ context.Context, p *patient) (Finding, error) {
	if p.Keyring == nil {
		reason := p.KeyringError
		if reason == nil {
			reason = errors.New("there are none")
		}
		return bad("give doctor the same SEALPOST_MASTER_KEYS or SEALPOST_MASTER_KEYS_FILE as gateways and senders", "no master keys: %v", reason), nil
	}
	prints := p.Keyring.Fingerprints()
	return fine("%d, fingerprints %s; the first derives new secrets", len(prints), strings.Join(prints, " ")), nil
}

func checkKeysFile(_ context.Context, p *patient) (Finding, error) {
	if p.KeysFile == "" {
		return fine("not used"), nil
	}
	info, err := os.Stat(p.KeysFile)
	if err != nil {
		return bad("correct SEALPOST_MASTER_KEYS_FILE", "%v", err), nil
	}
	mode := info.Mode().Perm()
	const advice = "chmod 600 the file, owned by the user of gateway and sender; if others could read it, make a new master key and rotate"
	switch {
	case runtime.GOOS == "windows":
		return fine("its access rights are not judged on this system"), nil
	case mode&0o007 != 0:
		return bad(advice, "every user of this machine may open the file of the master keys (mode %04o): who has them can sign as any organization", mode), nil
	case mode&0o020 != 0:
		return doubtful(advice, "the group may change the file of the master keys (mode %04o)", mode), nil
	}
	return fine("mode %04o", mode), nil
}

// checkSecrets derives the secrets of endpoints chosen by chance. Organizations
// are known from their API keys.
func checkSecrets(ctx context.Context, p *patient) (Finding, error) {
	if p.Keyring == nil {
		return Finding{Status: StatusSkipped, Detail: "needs the master keys"}, nil
	}
	keys, _, err := p.Store.SampleAPIKeys(ctx, sampledKeys)
	if err != nil {
		return Finding{}, err
	}
	organizations := organizationsOf(keys)
	endpoints, err := p.Store.SampleEndpoints(ctx, organizations, sampledEndpoints)
	if err != nil {
		return Finding{}, err
	}
	var mismatches int
	var kids []string
	for i := range endpoints {
		if kid, ok := p.derivable(&endpoints[i]); !ok {
			mismatches++
			kids = append(kids, kid)
		}
	}
	values := map[string]any{"sampled": len(endpoints), "mismatches": mismatches, "organizations": len(organizations)}
	if mismatches > 0 {
		slices.Sort(kids)
		return bad("add the master key that made them, under its own kid: until then their deliveries are held",
			"%d of %d sampled endpoints do not fit the master keys (kid %s)", mismatches, len(endpoints), strings.Join(distinct(kids), ", ")).with(values), nil
	}
	return fine("the secrets of %s fit the master keys", count(len(endpoints), "sampled endpoint")).with(values), nil
}

// derivable reports whether every valid secret of an endpoint fits the keys, or
// the kid of one that does not.
func (p *patient) derivable(e *core.Endpoint) (kid string, ok bool) {
	secrets := e.ValidSecrets(p.Now())
	for i := range secrets {
		if _, err := p.Keyring.Derive(e.Ref(), &secrets[i]); err != nil {
			return secrets[i].KID, false
		}
	}
	return "", true
}

func organizationsOf(keys []core.APIKey) []string {
	var names []string
	for i := range keys {
		if !slices.Contains(names, keys[i].Organization) && len(names) < sampledOrganizations {
			names = append(names, keys[i].Organization)
		}
	}
	return names
}

func checkAPIKeys(ctx context.Context, p *patient) (Finding, error) {
	keys, total, err := p.Store.SampleAPIKeys(ctx, sampledKeys)
	if err != nil {
		return Finding{}, err
	}
	values := map[string]any{"keys": total}
	const create = "gateway keys create --org … --scopes publish"
	if len(keys) == 0 {
		return doubtful(create, "there are no valid API keys: nobody can publish").with(values), nil
	}
	publishes := slices.ContainsFunc(keys, func(k core.APIKey) bool { return slices.Contains(k.Scopes, core.ScopePublish) })
	if !publishes && total <= sampledKeys {
		return doubtful(create, "none of the %s may publish", count(len(keys), "API key")).with(values), nil
	}
	return fine("%s", count(int(total), "API key")).with(values), nil
}

// count writes a number with its word.
func count(n int, word string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(word, "s"):
		word += "es"
	default:
		word += "s"
	}
	return fmt.Sprintf("%d %s", n, word)
}
