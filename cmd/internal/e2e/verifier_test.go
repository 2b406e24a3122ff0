package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// verifies reports whether the official Go library accepts the request under
// the secret.
func verifies(t *testing.T, secret string, r *received) bool {
	t.Helper()
	webhook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatalf("the secret %.12s… is not one of Standard Webhooks: %v", secret, err)
	}
	return webhook.Verify(r.body, r.header) == nil
}

// check is one question to the JavaScript library.
type check struct {
	secret  string
	request *received
}

// verifiesInNode asks the official JavaScript library, installed for this test
// from the npm registry.
func verifiesInNode(t *testing.T, checks []check) []bool {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"package.json", "verify.mjs"} {
		raw, err := os.ReadFile(filepath.Join("testdata", "verifier", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	install := exec.Command("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm install: %v\n%s", err, out)
	}
	var questions bytes.Buffer
	encode := json.NewEncoder(&questions)
	for _, c := range checks {
		headers := make(map[string]string)
		for _, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
			headers[name] = c.request.header.Get(name)
		}
		if err := encode.Encode(map[string]any{"secret": c.secret, "headers": headers, "body": c.request.body}); err != nil {
			t.Fatal(err)
		}
	}
	node := exec.Command("node", "verify.mjs")
	node.Dir, node.Stdin = dir, &questions
	var stderr bytes.Buffer
	node.Stderr = &stderr
	out, err := node.Output()
	if err != nil {
		t.Fatalf("node verify.mjs: %v\n%s", err, stderr.String())
	}
	var answers []bool
	for scanner := bufio.NewScanner(bytes.NewReader(out)); scanner.Scan(); {
		var answer struct{ OK bool }
		if err := json.Unmarshal(scanner.Bytes(), &answer); err != nil {
			t.Fatal(err)
		}
		answers = append(answers, answer.OK)
	}
	if len(answers) != len(checks) {
		t.Fatalf("node answered %d of %d questions: %s", len(answers), len(checks), stderr.String())
	}
	return answers
}
