package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/cmd/internal/app/exposure"
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
	if weak := p.Keyring.Weak(); len(weak) > 0 {
		return bad("make a new one with head -c 32 /dev/urandom | base64, put it first, and rotate all secrets",
			"master key %s is not random: who guesses it can sign as any organization", strings.Join(weak, ", ")), nil
	}
	prints := p.Keyring.Fingerprints()
	return fine("%d, fingerprints %s; the first derives new secrets", len(prints), strings.Join(prints, " ")), nil
}

// File is a file of secrets and the variable that names it.
type File struct{ Variable, Path string }

func checkKeysFile(_ context.Context, p *patient) (Finding, error) {
	files := p.KeyFiles
	if p.KeysFile != "" {
		files = append([]File{{"SEALPOST_MASTER_KEYS_FILE", p.KeysFile}}, files...)
	}
	worst := fine("not used")
	if len(files) > 0 {
		worst = fine("private to the user")
	}
	if p.KeysFile == "" && p.Keyring != nil {
		worst.Advice = "a file that only the user of gateway and sender may read (SEALPOST_MASTER_KEYS_FILE) is safer than their environment, which their children and whoever asks the service manager see"
	}
	for _, file := range files {
		if f := judgeFile(file); worse(f.Status, worst.Status) {
			worst = f
		}
	}
	return worst, nil
}

func judgeFile(file File) Finding {
	const advice = "chmod 600 the file, owned by the user of gateway and sender, in a folder that only its owner may write; if others could read it, make a new key and rotate"
	degree, why, err := exposure.Of(file.Path)
	switch {
	case err != nil:
		return bad("correct "+file.Variable, "%v", err)
	case degree == exposure.Open:
		return bad(advice, "the file of %s: %s", file.Variable, why)
	case degree == exposure.Group:
		return doubtful(advice, "the file of %s: %s", file.Variable, why)
	}
	return fine("%s is private", file.Variable)
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
