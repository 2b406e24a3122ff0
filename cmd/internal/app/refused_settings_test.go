package app

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// result is how a command ended.
type result struct {
	status         int
	stdout, stderr string
}

// invoke runs a command that ends by itself, in this process.
func invoke(t *testing.T, role Role, args ...string) result {
	t.Helper()
	// A command that goes on running is a mistake of the test or the program.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	status := run(ctx, role, args, &stdout, &stderr)
	if ctx.Err() != nil {
		t.Errorf("%v %s goes on running", role, strings.Join(args, " "))
	}
	return result{status, stdout.String(), stderr.String()}
}

// masterKey is a well-formed master key.
func masterKey() string { return "k1:" + base64.StdEncoding.EncodeToString(make([]byte, 32)) }

// TestRefusedSettings are settings that end the program with status 2 and one
// line that names the variable.
func TestRefusedSettings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := "--master-keys=" + masterKey()
	for name, tt := range map[string]struct {
		role  Role
		args  []string
		names string
	}{
		"gateway without master key":    {Gateway, nil, "SEALPOST_MASTER_KEYS"},
		"sender without master key":     {Sender, nil, "SEALPOST_MASTER_KEYS"},
		"both sources of master keys":   {Gateway, []string{key, "--master-keys-file=" + file("good", masterKey())}, "SEALPOST_MASTER_KEYS_FILE"},
		"master key of 16 bytes":        {Gateway, []string{"--master-keys=k1:AAAAAAAAAAAAAAAAAAAAAA=="}, "SEALPOST_MASTER_KEYS"},
		"master key without id":         {Sender, []string{"--master-keys=" + masterKey()[3:]}, "SEALPOST_MASTER_KEYS"},
		"one id twice":                  {Sender, []string{"--master-keys=" + masterKey() + "," + masterKey()}, "SEALPOST_MASTER_KEYS"},
		"file of master keys missing":   {Gateway, []string{"--master-keys-file=" + filepath.Join(dir, "none")}, "SEALPOST_MASTER_KEYS_FILE"},
		"file of master keys empty":     {Gateway, []string{"--master-keys-file=" + file("empty", "\n")}, "SEALPOST_MASTER_KEYS_FILE"},
		"Redis of an unknown kind":      {Gateway, []string{key, "--redis-url=http://127.0.0.1"}, "SEALPOST_REDIS_URL"},
		"Redis with a bad password":     {Gateway, []string{key, "--redis-url=redis://user:sec%ret@127.0.0.1/0"}, "SEALPOST_REDIS_URL"},
		"Redis without a port number":   {Sender, []string{key, "--redis-url=redis://127.0.0.1:redis/0"}, "SEALPOST_REDIS_URL"},
		"Redis database is a word":      {Sender, []string{key, "--redis-url=redis://127.0.0.1:6379/zero"}, "SEALPOST_REDIS_URL"},
		"shutdown shorter than attempt": {Sender, []string{key, "--delivery-timeout=15s", "--shutdown-timeout=14s"}, "SEALPOST_SHUTDOWN_TIMEOUT"},
		"negative shutdown":             {Sender, []string{key, "--shutdown-timeout=-1s"}, "SEALPOST_SHUTDOWN_TIMEOUT"},
		"attempt without time":          {Sender, []string{key, "--delivery-timeout=0s"}, "SEALPOST_DELIVERY_TIMEOUT"},
		"duration without unit":         {Sender, []string{key, "--delivery-timeout=15"}, "SEALPOST_DELIVERY_TIMEOUT"},
		"no attempts":                   {Sender, []string{key, "--retry-max-attempts=0"}, "MAX_ATTEMPTS"},
		"shrinking waits":               {Sender, []string{key, "--retry-factor=0.5"}, "FACTOR"},
		"factor is a word":              {Sender, []string{key, "--retry-factor=twice"}, "SEALPOST_RETRY_FACTOR"},
		"factor is no number":           {Sender, []string{key, "--retry-factor=NaN"}, "FACTOR"},
		"no base":                       {Sender, []string{key, "--retry-base=0s"}, "SEALPOST_RETRY_BASE"},
		"cap below base":                {Sender, []string{key, "--retry-cap=1s"}, "CAP"},
		"negative concurrency":          {Sender, []string{key, "--concurrency=-1"}, "SEALPOST_CONCURRENCY"},
		"concurrency is a fraction":     {Sender, []string{key, "--concurrency=1.5"}, "SEALPOST_CONCURRENCY"},
		"brief dead letters":            {Sender, []string{key, "--dead-letter-retention=1s"}, "SEALPOST_DEAD_LETTER_RETENTION"},
		"payloads kept too long":        {Gateway, []string{key, "--payload-retention=721h"}, "SEALPOST_PAYLOAD_RETENTION"},
		"payloads kept too briefly":     {Sender, []string{key, "--payload-retention=1ms"}, "SEALPOST_PAYLOAD_RETENTION"},
		"payloads kept before":          {Sender, []string{key, "--payload-retention=-1h"}, "SEALPOST_PAYLOAD_RETENTION"},
		"payload without number":        {Gateway, []string{key, "--max-payload=big"}, "SEALPOST_MAX_PAYLOAD"},
		"payload of an unknown unit":    {Gateway, []string{key, "--max-payload=256kb"}, "SEALPOST_MAX_PAYLOAD"},
		"payload too large":             {Gateway, []string{key, "--max-payload=5MiB"}, "SEALPOST_MAX_PAYLOAD"},
		"payload too small":             {Gateway, []string{key, "--max-payload=1"}, "SEALPOST_MAX_PAYLOAD"},
		"no endpoints":                  {Gateway, []string{key, "--max-endpoints=0"}, "SEALPOST_MAX_ENDPOINTS"},
		"negative quota":                {Gateway, []string{key, "--publish-rate=-1"}, "SEALPOST_PUBLISH_RATE"},
		"quota is no number":            {Gateway, []string{key, "--publish-rate=NaN"}, "SEALPOST_PUBLISH_RATE"},
		"quota without end":             {Gateway, []string{key, "--publish-rate=Inf"}, "SEALPOST_PUBLISH_RATE"},
		"burst without quota":           {Gateway, []string{key, "--publish-burst=5"}, "SEALPOST_PUBLISH_BURST"},
		"negative burst":                {Gateway, []string{key, "--publish-rate=1", "--publish-burst=-1"}, "SEALPOST_PUBLISH_BURST"},
		"overlap too long":              {Gateway, []string{key, "--rotation-overlap=169h"}, "SEALPOST_ROTATION_OVERLAP"},
		"negative overlap":              {Gateway, []string{key, "--rotation-overlap=-1s"}, "SEALPOST_ROTATION_OVERLAP"},
		"event type with a space":       {Gateway, []string{key, "--event-types=call received"}, "SEALPOST_EVENT_TYPES"},
		"event type of Sealpost's own":  {Gateway, []string{key, "--event-types=call.received,sealpost.endpoint.enabled"}, "SEALPOST_EVENT_TYPES"},
		"event type twice":              {Gateway, []string{key, "--event-types=a,b,a"}, "SEALPOST_EVENT_TYPES"},
		"net without length":            {Gateway, []string{key, "--allow-nets=10.0.0.0"}, "SEALPOST_ALLOW_NETS"},
		"net is a word":                 {Sender, []string{key, "--allow-nets=private"}, "SEALPOST_ALLOW_NETS"},
		"name server without port":      {Sender, []string{key, "--dns-servers=10.0.0.2"}, "SEALPOST_DNS_SERVERS"},
		"name server at a name":         {Gateway, []string{key, "--dns-servers=dns.example.com:53"}, "SEALPOST_DNS_SERVERS"},
		"name server at port 0":         {Sender, []string{key, "--dns-servers=10.0.0.2:0"}, "SEALPOST_DNS_SERVERS"},
		"name server nowhere":           {Sender, []string{key, "--dns-servers=0.0.0.0:53"}, "SEALPOST_DNS_SERVERS"},
		"name server twice":             {Sender, []string{key, "--dns-servers=10.0.0.2:53,10.0.0.2:53"}, "SEALPOST_DNS_SERVERS"},
		"five name servers":             {Sender, []string{key, "--dns-servers=10.0.0.1:53,10.0.0.2:53,10.0.0.3:53,10.0.0.4:53,[fd00::5]:53"}, "SEALPOST_DNS_SERVERS"},
		"unknown level":                 {Gateway, []string{key, "--log-level=loud"}, "SEALPOST_LOG_LEVEL"},
		"unknown format":                {Gateway, []string{key, "--log-format=xml"}, "SEALPOST_LOG_FORMAT"},
		"flag of nobody":                {Gateway, []string{key, "--retries=3"}, "--retries"},
		"the other program's flag":      {Gateway, []string{key, "--delivery-timeout=15s"}, "--delivery-timeout"},
		"something behind":              {Gateway, []string{key, "now"}, "now"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := invoke(t, tt.role, append([]string{"serve"}, tt.args...)...)
			if o.status != exitUsage || strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, tt.names) || o.stdout != "" {
				t.Errorf("%+v, want status 2 and one line that names %s", o, tt.names)
			}
			if strings.Contains(o.stderr, masterKey()[3:]) || strings.Contains(o.stderr, "ret@") {
				t.Errorf("a master key or password is shown: %s", o.stderr)
			}
		})
	}
	verify := []string{"verify", "--secret=whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "--id=evt_1", "--timestamp=1", "--signature=abc"}
	if o := invoke(t, Gateway, verify...); o.status != exitUsage || !strings.Contains(o.stderr, "--signature: must look like v1,") {
		t.Errorf("a signature without its version: %+v", o)
	}
	nobody := "--redis-url=unix://" + filepath.Join(dir, "nobody.sock")
	if o := invoke(t, Gateway, "keys", "list", nobody); o.status == exitOK || !strings.Contains(o.stderr, "start Redis, or correct SEALPOST_REDIS_URL") {
		t.Errorf("keys of a Redis that is not there: %+v", o)
	}
	for _, role := range []Role{Gateway, Sender} {
		if o := invoke(t, role); o.status != exitUsage || strings.Count(o.stderr, "\n") != 1 {
			t.Errorf("%v without a command: %+v", role, o)
		}
		if o := invoke(t, role, "destroy"); o.status != exitUsage || strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, "destroy; --help lists") {
			t.Errorf("%v with an unknown command: %+v", role, o)
		}
	}
}

// TestMasterKeysFile reads the ways in which a file may list master keys.
func TestMasterKeysFile(t *testing.T) {
	t.Parallel()
	second := "k2:" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	for name, content := range map[string]string{
		"a line each": masterKey() + "\n" + second + "\n", "commas": masterKey() + "," + second, "both, with spaces": "\n " + masterKey() + " ,\r\n\n" + second,
	} {
		file := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		ring, err := (&keySettings{MasterKeysFile: file}).keyring()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if prints := fmt.Sprint(ring.Fingerprints()); strings.Count(prints, ":") != 2 || !strings.HasPrefix(prints, "[k1:") || !strings.Contains(prints, " k2:") {
			t.Errorf("%s: fingerprints %s, want k1 before k2", name, prints)
		}
	}
}

// TestExposedMasterKeysFile: a program that starts with a file of master keys that
// everybody may read says so once, and starts.
func TestExposedMasterKeysFile(t *testing.T) {
	t.Parallel()
	for mode, want := range map[os.FileMode]int{0o600: 0, 0o640: 0, 0o644: 1} {
		file := filepath.Join(t.TempDir(), "keys")
		if err := errors.Join(os.WriteFile(file, []byte(masterKey()), 0o600), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		(&keySettings{MasterKeysFile: file}).warnOfExposure(slog.New(slog.NewTextHandler(&log, nil)))
		if got := strings.Count(log.String(), "level=WARN"); got != want || strings.Contains(log.String(), masterKey()[3:]) || want > 0 && !strings.Contains(log.String(), "mode 0644") {
			t.Errorf("mode %04o: %d warnings, want %d: %s", mode, got, want, &log)
		}
	}
}

// TestByteSizes reads sizes and writes them back.
func TestByteSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]byteSize{
		"0": 0, "1000": 1000, "17B": 17, "256KiB": 256 << 10, "4 MiB": 4 << 20, "1GiB": 1 << 30,
	} {
		var got, again byteSize
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
		if err := again.UnmarshalText([]byte(got.String())); err != nil || again != got {
			t.Errorf("%q is written as %q, which is %d, %v", text, got.String(), again, err)
		}
	}
	for _, text := range []string{"", "KiB", "-1", "+1", "1.5MiB", "1e3", "0x10", "1 2", "9223372036854775808", "9000000000GiB", "1TB"} {
		var got byteSize
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is accepted as %d", text, got)
		}
	}
}
