package app

import (
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/cmd/internal/app/exposure"
	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/egress"
	"github.com/sealpost/sealpost/core/retry"
	"github.com/sealpost/sealpost/core/sign"
)

// The settings. Each field is an environment variable and a flag of the same
// name; docs and `--help` are checked against these structs by a test.

// redisSettings say where the data is, and when it counts as stored.
type redisSettings struct {
	RedisURL   string `name:"redis-url" env:"SEALPOST_REDIS_URL" default:"redis://127.0.0.1:6379/0" help:"Redis: redis://, rediss:// or unix://; several comma-separated addresses are a Redis Cluster; redis+sentinel://host:port/db?master=name."`
	Durability string `env:"SEALPOST_DURABILITY" default:"async" enum:"async,fsync,replica" help:"When an event counts as stored: async, as soon as Redis has it; fsync, on its disk (needs appendfsync always); replica, on a replica too. The same for gateways and senders."`
}

// adminSettings belong to the operators' listener.
type adminSettings struct {
	AdminListen      string `env:"SEALPOST_ADMIN_LISTEN" default:"${admin_listen}" help:"Address of /metrics, /healthz, /readyz, /debug/pprof/ and, of a sender, /top; keep it private."`
	NativeHistograms bool   `env:"SEALPOST_NATIVE_HISTOGRAMS" default:"false" help:"Expose native histograms beside the classic ones (Prometheus 2.45 or newer, told to scrape both)."`
}

// logSettings say what is logged and how.
type logSettings struct {
	LogLevel  logLevel `env:"SEALPOST_LOG_LEVEL" default:"info" help:"debug, info, warn or error."`
	LogFormat string   `env:"SEALPOST_LOG_FORMAT" default:"auto" enum:"auto,json,text" help:"json, text, or auto: text on a terminal, else json."`
}

// keySettings hold the master keys.
type keySettings struct {
	MasterKeys     string `env:"SEALPOST_MASTER_KEYS" help:"Master keys, kid:base64(32 bytes), comma-separated; the first one derives new signing secrets."`
	MasterKeysFile string `env:"SEALPOST_MASTER_KEYS_FILE" help:"File with the master keys, one a line, instead of SEALPOST_MASTER_KEYS."`
}

// targetSettings say which URLs may be delivered to, and who resolves their names.
type targetSettings struct {
	AllowHTTP  bool       `name:"allow-http" env:"SEALPOST_ALLOW_HTTP" default:"false" help:"Permit http:// endpoints (development and tests)."`
	AllowNets  prefixes   `env:"SEALPOST_ALLOW_NETS" help:"Comma-separated CIDRs that deliveries may reach although they are not public."`
	DNSServers dnsServers `env:"SEALPOST_DNS_SERVERS" help:"Comma-separated name servers (address:port, at most 4) that resolve endpoints' names, tried in turn, instead of the system's."`
}

// apiSettings belong to the gateway.
type apiSettings struct {
	EventTypes      eventTypes    `env:"SEALPOST_EVENT_TYPES" help:"Comma-separated catalogue of event types (default: the eleven of docs/API.md); those that begin with 'sealpost.' are reserved."`
	RotationOverlap time.Duration `env:"SEALPOST_ROTATION_OVERLAP" default:"24h" help:"How long the previous secret also signs after a rotation (0s to 168h)."`
	MaxPayload      byteSize      `env:"SEALPOST_MAX_PAYLOAD" default:"256KiB" help:"Largest data of one event; above: 413."`
	MaxEndpoints    int           `env:"SEALPOST_MAX_ENDPOINTS" default:"1000" help:"Endpoints per organization."`
	PublishRate     float64       `env:"SEALPOST_PUBLISH_RATE" default:"0" help:"Events a second that each organization may publish, over all gateways; above: 429 (0: no quota)."`
	PublishBurst    int           `env:"SEALPOST_PUBLISH_BURST" default:"0" help:"Events that an organization may publish at once (0: those of one second, at least 1000)."`
}

// deliverySettings belong to the sender.
type deliverySettings struct {
	DeliveryTimeout     time.Duration `env:"SEALPOST_DELIVERY_TIMEOUT" default:"15s" help:"Whole attempt: DNS, TCP, TLS, request and response."`
	RetryBase           time.Duration `env:"SEALPOST_RETRY_BASE" default:"5s" help:"Wait after the first failed attempt, +-20 %."`
	RetryFactor         float64       `env:"SEALPOST_RETRY_FACTOR" default:"4" help:"By how much each further wait is longer."`
	RetryCap            time.Duration `env:"SEALPOST_RETRY_CAP" default:"12h" help:"Longest wait between two attempts."`
	RetryMaxAttempts    int           `env:"SEALPOST_RETRY_MAX_ATTEMPTS" default:"12" help:"Attempts before a delivery becomes a dead letter."`
	Concurrency         int           `env:"SEALPOST_CONCURRENCY" default:"0" help:"Attempts in flight per sender process (0: 64 per core)."`
	ShutdownTimeout     time.Duration `env:"SEALPOST_SHUTDOWN_TIMEOUT" default:"0s" help:"Time to finish attempts on SIGTERM (0s: delivery timeout + 5s; less than the delivery timeout is refused)."`
	HideTrace           bool          `env:"SEALPOST_HIDE_TRACE" default:"false" help:"Send receivers neither traceparent nor tracestate."`
	BacklogRetention    time.Duration `env:"SEALPOST_BACKLOG_RETENTION" default:"72h" help:"How long a delivery waits for an endpoint that is failing, paused or disabled (at least as long as the whole retry schedule lasts)."`
	DisableAfter        time.Duration `env:"SEALPOST_DISABLE_AFTER" default:"120h" help:"An endpoint that does nothing but fail for so long is disabled (0s: never)."`
	DeadLetterRetention time.Duration `env:"SEALPOST_DEAD_LETTER_RETENTION" default:"720h" help:"How long dead letters are kept."`
}

// payloadSettings belong to both: the sender keeps what the gateway replays.
type payloadSettings struct {
	PayloadRetention time.Duration `env:"SEALPOST_PAYLOAD_RETENTION" default:"0s" help:"How long delivered payloads stay replayable (0s: not at all; at most 720h). The same for gateways and senders."`
}

// Bounds of settings.
const (
	maxRotationOverlap  = 168 * time.Hour
	minMaxPayload       = byteSize(1 << 10)
	maxMaxPayload       = byteSize(4 << 20) // one event must fit a batch body
	maxConcurrency      = 16384
	attemptsPerCore     = 64
	shutdownSlack       = 5 * time.Second
	minDeliveryTimeout  = 100 * time.Millisecond
	maxDeliveryTimeout  = 3 * time.Minute // a bundle has five
	maxEndpointsCeiling = 10_000
	maxBacklogRetention = 720 * time.Hour
	maxPayloadRetention = 720 * time.Hour
	minDisableAfter     = time.Minute
	minPublishRate      = 0.001 // events a second
	maxPublishRate      = 1e6
	maxPublishBurst     = 10_000_000
	defaultPublishBurst = 1000 // a whole batch
)

// keyring returns the master keys, from the one source that is given.
func (s *keySettings) keyring() (*sign.Keyring, error) {
	text := s.MasterKeys
	switch {
	case s.MasterKeys != "" && s.MasterKeysFile != "":
		return nil, badSetting("SEALPOST_MASTER_KEYS_FILE", "given together with SEALPOST_MASTER_KEYS: give one of them")
	case s.MasterKeysFile != "":
		raw, err := os.ReadFile(s.MasterKeysFile)
		if err != nil {
			return nil, badSetting("SEALPOST_MASTER_KEYS_FILE", err.Error())
		}
		text = strings.Join(strings.Fields(strings.ReplaceAll(string(raw), ",", " ")), ",")
		if text == "" {
			return nil, badSetting("SEALPOST_MASTER_KEYS_FILE", "the file is empty")
		}
	case s.MasterKeys == "":
		return nil, badSetting("SEALPOST_MASTER_KEYS", "required: signing secrets are derived from it. Make one with: echo \"k1:$(head -c 32 /dev/urandom | base64)\"")
	}
	ring, err := sign.ParseKeyring(text)
	if err != nil {
		return nil, badSetting("SEALPOST_MASTER_KEYS", err.Error())
	}
	return ring, nil
}

// warnOfExposure logs that others than the program's user may get at the file of
// the master keys. It is no reason to stay down: what has been read has been read.
func (s *keySettings) warnOfExposure(log *slog.Logger) {
	if s.MasterKeysFile == "" {
		return
	}
	if degree, why, err := exposure.Of(s.MasterKeysFile); err == nil && degree == exposure.Open {
		log.Warn("the file of the master keys is exposed", "file", s.MasterKeysFile, "reason", why)
	}
}

func (s *apiSettings) validate() error {
	switch {
	case s.RotationOverlap < 0 || s.RotationOverlap > maxRotationOverlap:
		return badSetting("SEALPOST_ROTATION_OVERLAP", "must be between 0s and 168h")
	case s.MaxPayload < minMaxPayload || s.MaxPayload > maxMaxPayload:
		return badSetting("SEALPOST_MAX_PAYLOAD", fmt.Sprintf("must be between %v and %v", minMaxPayload, maxMaxPayload))
	case s.MaxEndpoints < 1 || s.MaxEndpoints > maxEndpointsCeiling:
		return badSetting("SEALPOST_MAX_ENDPOINTS", fmt.Sprintf("must be between 1 and %d", maxEndpointsCeiling))
	}
	if err := s.validateQuota(); err != nil {
		return err
	}
	if len(s.EventTypes) == 0 {
		s.EventTypes = eventTypes(core.DefaultEventTypes())
	}
	return nil
}

func (s *apiSettings) validateQuota() error {
	switch {
	case s.PublishRate != 0 && !(s.PublishRate >= minPublishRate && s.PublishRate <= maxPublishRate): // the negation catches NaN
		return badSetting("SEALPOST_PUBLISH_RATE", fmt.Sprintf("must be 0, or between %g and %.0f", minPublishRate, maxPublishRate))
	case s.PublishBurst < 0 || s.PublishBurst > maxPublishBurst:
		return badSetting("SEALPOST_PUBLISH_BURST", fmt.Sprintf("must be between 0 and %d", maxPublishBurst))
	case s.PublishBurst > 0 && s.PublishRate == 0:
		return badSetting("SEALPOST_PUBLISH_BURST", "means nothing without SEALPOST_PUBLISH_RATE")
	}
	return nil
}

// quota returns what each organization may publish.
func (s *apiSettings) quota() core.Quota {
	q := core.Quota{Rate: s.PublishRate, Burst: s.PublishBurst}
	if q.Limits() && q.Burst == 0 {
		q.Burst = max(defaultPublishBurst, int(math.Ceil(q.Rate)))
	}
	return q
}

// overlap returns the overlap as core/gateway reads it: negative is none.
func (s *apiSettings) overlap() time.Duration {
	if s.RotationOverlap == 0 {
		return -1
	}
	return s.RotationOverlap
}

func (s *deliverySettings) schedule() retry.Schedule {
	return retry.Schedule{Base: s.RetryBase, Factor: s.RetryFactor, Cap: s.RetryCap, MaxAttempts: s.RetryMaxAttempts}
}

func (s *deliverySettings) validate() error {
	if s.DeliveryTimeout < minDeliveryTimeout || s.DeliveryTimeout > maxDeliveryTimeout {
		return badSetting("SEALPOST_DELIVERY_TIMEOUT", fmt.Sprintf("must be between %v and %v", minDeliveryTimeout, maxDeliveryTimeout))
	}
	if err := s.schedule().Validate(); err != nil {
		word, _, _ := strings.Cut(err.Error(), ":")
		return badSetting("SEALPOST_RETRY_"+strings.ToUpper(strings.ReplaceAll(word, " ", "_")), err.Error())
	}
	if s.Concurrency < 0 || s.Concurrency > maxConcurrency {
		return badSetting("SEALPOST_CONCURRENCY", fmt.Sprintf("must be between 0 and %d", maxConcurrency))
	}
	if s.Concurrency == 0 {
		s.Concurrency = attemptsPerCore * runtime.GOMAXPROCS(0)
	}
	if s.ShutdownTimeout == 0 {
		s.ShutdownTimeout = s.DeliveryTimeout + shutdownSlack
	}
	if s.ShutdownTimeout < s.DeliveryTimeout {
		return badSetting("SEALPOST_SHUTDOWN_TIMEOUT", fmt.Sprintf("%v is shorter than SEALPOST_DELIVERY_TIMEOUT (%v): attempts would be cut off and made twice", s.ShutdownTimeout, s.DeliveryTimeout))
	}
	if s.DeadLetterRetention < time.Minute {
		return badSetting("SEALPOST_DEAD_LETTER_RETENTION", "must be at least 1m")
	}
	if s.BacklogRetention < time.Minute || s.BacklogRetention > maxBacklogRetention {
		return badSetting("SEALPOST_BACKLOG_RETENTION", fmt.Sprintf("must be between 1m and %v", maxBacklogRetention))
	}
	if s.DisableAfter != 0 && s.DisableAfter < minDisableAfter {
		return badSetting("SEALPOST_DISABLE_AFTER", fmt.Sprintf("must be 0s or at least %v", minDisableAfter))
	}
	return nil
}

func (s *payloadSettings) validate() error {
	if s.PayloadRetention != 0 && (s.PayloadRetention < time.Second || s.PayloadRetention > maxPayloadRetention) {
		return badSetting("SEALPOST_PAYLOAD_RETENTION", "must be 0s, or between 1s and 720h")
	}
	return nil
}

// logLevel is how much is logged.
type logLevel slog.Level

// UnmarshalText reads a level by its name.
func (l *logLevel) UnmarshalText(text []byte) error {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[strings.ToLower(string(text))]
	if !ok {
		return fmt.Errorf("%q is none of debug, info, warn, error", text)
	}
	*l = logLevel(level)
	return nil
}

// usageError is a wrong flag or setting.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// badSetting returns the one line that names the variable.
func badSetting(variable, problem string) error {
	return &usageError{text: variable + ": " + problem}
}

// byteSize is a number of bytes, written like 256KiB, 4MiB or 1000.
type byteSize int64

// UnmarshalText reads a byte size.
func (b *byteSize) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	unit := int64(1)
	for _, u := range []struct {
		suffix string
		bytes  int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}} {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			s, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	var n int64
	if _, err := fmt.Sscanf(s, "%d", &n); err != nil || fmt.Sprint(n) != s || n < 0 || n > (1<<62)/unit {
		return fmt.Errorf("%q is not a size like 256KiB", text)
	}
	*b = byteSize(n * unit)
	return nil
}

// String returns the size in the largest unit that divides it.
func (b byteSize) String() string {
	switch {
	case b >= 1<<20 && b%(1<<20) == 0:
		return fmt.Sprintf("%dMiB", b>>20)
	case b >= 1<<10 && b%(1<<10) == 0:
		return fmt.Sprintf("%dKiB", b>>10)
	}
	return fmt.Sprintf("%dB", int64(b))
}

// prefixes is a comma-separated list of CIDRs.
type prefixes []netip.Prefix

// UnmarshalText reads the list.
func (p *prefixes) UnmarshalText(text []byte) error {
	*p = nil
	for word := range strings.SplitSeq(string(text), ",") {
		word = strings.TrimSpace(word)
		if word == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(word)
		if err != nil {
			return fmt.Errorf("%q is not a CIDR like 10.0.0.0/8", word)
		}
		*p = append(*p, prefix.Masked())
	}
	return nil
}

// dnsServers is a comma-separated list of name servers.
type dnsServers []netip.AddrPort

// UnmarshalText reads the list.
func (d *dnsServers) UnmarshalText(text []byte) error {
	*d = nil
	for word := range strings.SplitSeq(string(text), ",") {
		word = strings.TrimSpace(word)
		if word == "" {
			continue
		}
		server, err := netip.ParseAddrPort(word)
		switch {
		case err != nil || server.Port() == 0:
			return fmt.Errorf("%q is not an address and port like 10.0.0.2:53 or [fd00::2]:53", word)
		case server.Addr().IsUnspecified() || server.Addr().IsMulticast():
			return fmt.Errorf("%q is not the address of one server", word)
		case slices.Contains(*d, server):
			return fmt.Errorf("%q is named twice", word)
		case len(*d) == egress.MaxDNSServers:
			return fmt.Errorf("more than %d name servers", egress.MaxDNSServers)
		}
		*d = append(*d, server)
	}
	return nil
}

// eventTypes is a comma-separated catalogue.
type eventTypes core.EventTypes

// UnmarshalText reads the catalogue.
func (e *eventTypes) UnmarshalText(text []byte) error {
	*e = nil
	for word := range strings.SplitSeq(string(text), ",") {
		word = strings.TrimSpace(word)
		if word == "" {
			continue
		}
		if !core.ValidEventType(word) {
			return fmt.Errorf("%q is not an event type like invoice.paid", word)
		}
		if core.SystemEventType(word) {
			return fmt.Errorf("%q begins with %s, as only Sealpost's own event types do", word, core.SystemPrefix)
		}
		if core.EventTypes(*e).Has(word) {
			return fmt.Errorf("%q is named twice", word)
		}
		*e = append(*e, word)
	}
	return nil
}
