package redisstore

import (
	"bufio"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

// TestScriptsNameTheirKeys watches Redis while every method runs: a script touches
// only keys that it was given, and they are in one slot.
func TestScriptsNameTheirKeys(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("cluster-enabled", "yes"))
	s, client := newStore(t, server.URL()), server.Client(t)
	noError(t, client.ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	awaitCluster(t, client)
	errs := make(map[string]error)
	backlogs(t.Context(), s, endpoint("acme", 7).Ref(), errs) // the scripts are loaded
	lines := monitor(t, server, func() {
		for name, err := range everything(t.Context(), s) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		park(t, s, core.Parking{Endpoint: endpoint("acme", 1).Ref(), Deliveries: parcels(endpoint("acme", 1).Ref(), 1, 10)})
	})
	argument := regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)
	var declared []string
	inside := 0
	for _, line := range lines {
		var args []string
		for _, match := range argument.FindAllStringSubmatch(line, -1) {
			args = append(args, match[1])
		}
		if len(args) == 0 {
			continue
		}
		switch name := strings.ToLower(args[0]); {
		case strings.Contains(line, " lua] "):
			if name == "time" {
				continue
			}
			inside++
			if !slices.Contains(declared, args[1]) {
				t.Errorf("a script of the keys %q touches %s", declared, args[1])
			}
		case name == "eval" || name == "evalsha":
			n, err := strconv.Atoi(args[2])
			noError(t, err)
			declared = args[3 : 3+n]
			for _, key := range declared[1:] {
				if a, b := slot(t, client, declared[0]), slot(t, client, key); a != b {
					t.Errorf("%s and %s are in different slots", declared[0], key)
				}
			}
		}
	}
	if inside < 50 {
		t.Errorf("%d commands of scripts were seen: this test does not see what it should", inside)
	}
}

func slot(t *testing.T, client *redis.Client, key string) int64 {
	t.Helper()
	n, err := client.ClusterKeySlot(t.Context(), key).Result()
	noError(t, err)
	return n
}

// monitor returns what Redis did while run ran.
func monitor(t *testing.T, server *redistest.Server, run func()) []string {
	t.Helper()
	const end = "this is the end"
	conn, err := net.Dial("tcp", server.Addr())
	noError(t, err)
	defer conn.Close()
	noError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = conn.Write([]byte("MONITOR\r\n"))
	noError(t, err)
	r := bufio.NewReader(conn)
	if answer, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(answer, "+OK") {
		t.Fatalf("MONITOR: %q, %v", answer, err)
	}
	run()
	noError(t, server.Client(t).Echo(t.Context(), end).Err())
	var lines []string
	for {
		line, err := r.ReadString('\n')
		noError(t, err)
		if strings.Contains(line, end) {
			return lines
		}
		lines = append(lines, line)
	}
}
