package top

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
)

// maxWorst is how many endpoints are shown.
const maxWorst = 10

// trouble is what a sender says about an endpoint that fails or is slow. What it
// does not say is zero.
type trouble struct {
	Organization string  `json:"organization"`
	Endpoint     string  `json:"endpoint"`
	Failed       int     `json:"failed"` // attempts
	Slow         int     `json:"slow"`
	Slowest      float64 `json:"slowest_seconds"`
	Reason       string  `json:"last_reason"`
}

// fetchWorst reads a sender's list of its worst endpoints, alone or as the
// member endpoints of an object.
func fetchWorst(ctx context.Context, client *http.Client, address string) ([]trouble, error) {
	body, status, err := get(ctx, client, "http://"+address+"/top")
	switch {
	case err != nil:
		return nil, errNotAvailable // the list of processes says why
	case status == http.StatusNotFound:
		return nil, errNotAvailable
	case status != http.StatusOK:
		return nil, fmt.Errorf("/top of %s is answered with %d", address, status)
	}
	var answer struct {
		Endpoints []trouble `json:"endpoints"`
	}
	if body = bytes.TrimSpace(body); bytes.HasPrefix(body, []byte("[")) {
		err = json.Unmarshal(body, &answer.Endpoints)
	} else {
		err = json.Unmarshal(body, &answer)
	}
	if err != nil {
		return nil, fmt.Errorf("/top of %s cannot be read: %w", address, err)
	}
	return answer.Endpoints, nil
}

// merge adds up what several senders say about the same endpoint and returns the
// worst ones, those with most failures first.
func merge(all []trouble) []trouble {
	index := make(map[string]int)
	var merged []trouble
	for _, t := range all {
		i, ok := index[t.Endpoint]
		if !ok {
			index[t.Endpoint] = len(merged)
			merged = append(merged, t)
			continue
		}
		m := &merged[i]
		m.Failed, m.Slow, m.Slowest = m.Failed+t.Failed, m.Slow+t.Slow, max(m.Slowest, t.Slowest)
		m.Reason = cmp.Or(m.Reason, t.Reason)
	}
	slices.SortStableFunc(merged, func(a, b trouble) int {
		return cmp.Or(cmp.Compare(b.Failed, a.Failed), cmp.Compare(b.Slow, a.Slow), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	return merged[:min(len(merged), maxWorst)]
}
