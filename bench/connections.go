package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/sealpost/sealpost/bench/internal/lab"
)

// connections counts the connections that senders took for requests.
type connections struct{ fresh, reused float64 }

// connectionsOf reads the counts of all senders among ps from their /metrics.
func connectionsOf(ctx context.Context, ps []*lab.Process) (sum connections, err error) {
	for _, p := range ps {
		if !strings.HasPrefix(p.Name, "sender") {
			continue
		}
		if err := sum.add(ctx, p.Admin+"/metrics"); err != nil {
			return sum, fmt.Errorf("connections of %s: %w", p.Name, err)
		}
	}
	return sum, nil
}

func (c *connections) add(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseFloat(value, 64)
		switch {
		case err != nil: // a comment
		case name == `sealpost_sender_connections_total{reused="false"}`:
			c.fresh += n
		case name == `sealpost_sender_connections_total{reused="true"}`:
			c.reused += n
		}
	}
	return lines.Err()
}
