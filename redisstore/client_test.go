package redisstore

import (
	"bytes"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestOpenKeepsWhatTheURLSays(t *testing.T) {
	t.Parallel()
	at, err := ParseURL("redis://h:1/2?pool_size=7&read_timeout=9s")
	noError(t, err)
	client := Open(at, ProfileQueue)
	defer client.Close()
	o := client.(*redis.Client).Options()
	if o.PoolSize != 7 || o.ReadTimeout != 9*time.Second || o.WriteTimeout != 3*time.Second || o.DB != 2 {
		t.Errorf("options %+v", o)
	}
	at.ReadTimeout = time.Second // too short for a wait
	patient := Open(at, ProfileQueue)
	defer patient.Close()
	if o := patient.(*redis.Client).Options(); o.ReadTimeout != 3*time.Second {
		t.Errorf("asynq's replies are read for %v, want 3 s", o.ReadTimeout)
	}
	if at.PoolTimeout != 0 || at.ContextTimeoutEnabled {
		t.Error("Open changed the options it was given")
	}
}

func TestProfilesAreBounded(t *testing.T) {
	t.Parallel()
	for _, p := range []Profile{ProfilePublish, ProfileStore, ProfileQueue} {
		client := Open(&redis.UniversalOptions{Addrs: []string{"h:1"}}, p)
		o := client.(*redis.Client).Options()
		client.Close()
		wait := 3 * time.Second
		if p != ProfileQueue {
			wait = time.Second
		}
		if o.ReadTimeout > wait || o.WriteTimeout > wait || o.PoolTimeout > wait || o.DialTimeout > time.Second ||
			o.DialerRetries != 1 || o.MaxRetries != 0 || !o.ContextTimeoutEnabled || o.PoolSize > 64 {
			t.Errorf("profile %d: %+v", p, o)
		}
	}
}

func TestOpenMakesTheRightKind(t *testing.T) {
	t.Parallel()
	cluster := Open(&redis.UniversalOptions{Addrs: []string{"127.0.0.1:1", "127.0.0.1:2"}}, ProfileStore)
	defer cluster.Close()
	if _, ok := cluster.(*redis.ClusterClient); !ok {
		t.Errorf("two addresses make a %T", cluster)
	}
	sentinel := Open(&redis.UniversalOptions{Addrs: []string{"127.0.0.1:1"}, MasterName: "m"}, ProfileStore)
	defer sentinel.Close()
	if _, ok := sentinel.(*redis.Client); !ok {
		t.Errorf("a master's name makes a %T", sentinel)
	}
}

// TestCommandsAreSentOnce holds that a command whose reply is lost is not sent
// again: most commands here must not run twice.
func TestCommandsAreSentOnce(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	var commands atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				commands.Add(loseReply(conn))
			}
		}
	}()
	client := Open(&redis.UniversalOptions{Addrs: []string{listener.Addr().String()}}, ProfileStore)
	if err := client.Incr(t.Context(), "n").Err(); err == nil {
		t.Error("a command without a reply succeeded")
	}
	pipe := client.Pipeline()
	pipe.Incr(t.Context(), "n")
	if _, err := pipe.Exec(t.Context()); err == nil {
		t.Error("a pipeline without a reply succeeded")
	}
	noError(t, client.Close())
	noError(t, listener.Close())
	<-done
	if n := commands.Load(); n != 2 {
		t.Errorf("the command arrived %d times; want 2", n)
	}
}

// loseReply refuses all but INCR, at which it hangs up and returns 1.
func loseReply(conn net.Conn) int32 {
	defer conn.Close()
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return 0
		}
		if bytes.Contains(buf[:n], []byte("incr")) {
			return 1
		}
		if _, err := conn.Write([]byte("-ERR unknown command\r\n")); err != nil {
			return 0
		}
	}
}
