package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/queue"
	"github.com/sealpost/sealpost/redisstore"
)

// maxSharedValue bounds the value of a setting that is announced, in bytes. A
// longer one stands there as its hash, which is enough to compare it.
const maxSharedValue = 256

// sharer has settings that all processes ought to have in common.
type sharer interface {
	// shared returns them by variable. None of them is secret.
	shared() map[string]string
}

// announce tells the operators what this process is, as long as it runs.
func (b *base) announce(p redisstore.Process, settings ...sharer) {
	p.ID, p.Version, p.PID, p.StartedAt = core.NewToken(), core.Version, os.Getpid(), time.Now().UTC()
	p.AdminListen = b.admin.listener.Addr().String()
	p.Own = b.own[:min(len(b.own), maxOwn)]
	p.Shards = queue.DefaultShards
	p.MasterKeys = b.ring.Fingerprints()
	p.Host, _ = os.Hostname() // without a name the process is told by its id
	p.Settings = make(map[string]string)
	for _, s := range settings {
		maps.Copy(p.Settings, s.shared())
	}
	for name, value := range p.Settings {
		if len(value) > maxSharedValue {
			sum := sha256.Sum256([]byte(value))
			p.Settings[name] = "sha256:" + hex.EncodeToString(sum[:8])
		}
	}
	b.members.start("announcement", func(ctx context.Context) error { return b.store.Announce(ctx, p) })
}

func (s *redisSettings) shared() map[string]string {
	return map[string]string{"SEALPOST_DURABILITY": s.Durability}
}

func (s *targetSettings) shared() map[string]string {
	nets := make([]string, len(s.AllowNets))
	for i, net := range s.AllowNets {
		nets[i] = net.String()
	}
	return map[string]string{
		"SEALPOST_ALLOW_HTTP": fmt.Sprint(s.AllowHTTP),
		"SEALPOST_ALLOW_NETS": strings.Join(nets, ","),
	}
}

func (s *payloadSettings) shared() map[string]string {
	return map[string]string{"SEALPOST_PAYLOAD_RETENTION": s.PayloadRetention.String()}
}

func (s *apiSettings) shared() map[string]string {
	return map[string]string{
		"SEALPOST_EVENT_TYPES":      strings.Join(s.EventTypes, ","),
		"SEALPOST_ROTATION_OVERLAP": s.RotationOverlap.String(),
		"SEALPOST_MAX_PAYLOAD":      s.MaxPayload.String(),
		"SEALPOST_MAX_ENDPOINTS":    fmt.Sprint(s.MaxEndpoints),
		"SEALPOST_PUBLISH_RATE":     fmt.Sprint(s.PublishRate),
		"SEALPOST_PUBLISH_BURST":    fmt.Sprint(s.PublishBurst),
	}
}

func (s *deliverySettings) shared() map[string]string {
	return map[string]string{
		"SEALPOST_DELIVERY_TIMEOUT":      s.DeliveryTimeout.String(),
		"SEALPOST_RETRY_BASE":            s.RetryBase.String(),
		"SEALPOST_RETRY_FACTOR":          fmt.Sprint(s.RetryFactor),
		"SEALPOST_RETRY_CAP":             s.RetryCap.String(),
		"SEALPOST_RETRY_MAX_ATTEMPTS":    fmt.Sprint(s.RetryMaxAttempts),
		"SEALPOST_DEAD_LETTER_RETENTION": s.DeadLetterRetention.String(),
		"SEALPOST_BACKLOG_RETENTION":     s.BacklogRetention.String(),
		"SEALPOST_DISABLE_AFTER":         s.DisableAfter.String(),
	}
}
