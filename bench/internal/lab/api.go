package lab

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// API calls a gateway's management API.
type API struct{ Base, Key string }

// Call makes a request and reads its answer.
func (c API) Call(ctx context.Context, method, path string, body, answer any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.Key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if raw, err = io.ReadAll(resp.Body); err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, raw)
	}
	return json.Unmarshal(raw, answer)
}

// Subscribe makes n endpoints for one event type at the URLs that url gives and
// returns their ids and signing keys.
func (c API) Subscribe(ctx context.Context, n int, url func(int) string, eventType string) (ids []string, keys [][]byte, err error) {
	for i := range n {
		var made struct {
			ID     string `json:"id"`
			Secret string `json:"signing_secret"`
		}
		err := c.Call(ctx, "POST", "/api/v1/webhooks", map[string]any{"url": url(i), "events": []string{eventType}}, &made)
		if err != nil {
			return ids, nil, err
		}
		key, err := decodeSecret(made.Secret)
		if err != nil {
			return ids, nil, err
		}
		ids, keys = append(ids, made.ID), append(keys, key)
	}
	return ids, keys, nil
}

// Unsubscribe removes endpoints again.
func (c API) Unsubscribe(ctx context.Context, ids []string) error {
	for _, id := range ids {
		var gone struct{ Deleted bool }
		if err := c.Call(ctx, "DELETE", "/api/v1/webhooks/"+id, nil, &gone); err != nil {
			return err
		}
	}
	return nil
}

// decodeSecret returns the key behind `whsec_…`.
func decodeSecret(secret string) ([]byte, error) {
	return base64.StdEncoding.DecodeString(secret[len("whsec_"):])
}
