package redisstore

import (
	"testing"
	"time"
)

func TestAllowTest(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *Store) {
		for _, tt := range []struct {
			organization string
			allowed      bool
		}{{"acme", true}, {"acme", false}, {"other", true}} {
			wait, err := s.AllowTest(t.Context(), tt.organization)
			noError(t, err)
			if (wait == 0) != tt.allowed || wait > testInterval {
				t.Errorf("%s has to wait %v; allowed: %t", tt.organization, wait, tt.allowed)
			}
		}
		if ttl := s.client.PTTL(t.Context(), testKey("acme")).Val(); ttl <= 0 || ttl > time.Second {
			t.Errorf("the next test is allowed in %v", ttl)
		}
	})
}
