package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/sealpost/sealpost/core/sign"
)

// sampleReceiver is the sample endpoint of `gateway dev`: it verifies what it
// gets as a customer's system would, and prints a line for each delivery.
type sampleReceiver struct {
	listener net.Listener
	server   *http.Server

	mu      sync.Mutex
	out     io.Writer
	secrets [][]byte
}

// maxSampleBody bounds the bodies that it reads, in bytes.
const maxSampleBody = 8 << 20

func newSampleReceiver(out io.Writer) (*sampleReceiver, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("sample receiver: %w", err)
	}
	r := &sampleReceiver{listener: listener, out: out}
	r.server = &http.Server{Handler: r, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	return r, nil
}

// url returns where it listens.
func (r *sampleReceiver) url() string { return "http://" + r.listener.Addr().String() + "/webhook" }

// trust adds a secret that deliveries may be signed with.
func (r *sampleReceiver) trust(secret string) error {
	key, err := sign.ParseSecret(secret)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secrets = append(r.secrets, key)
	return nil
}

// run serves until ctx ends.
func (r *sampleReceiver) run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- r.server.Serve(r.listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	r.server.Close()
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeHTTP verifies one delivery, answers 204 or 401 and prints what it got.
func (r *sampleReceiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxSampleBody))
	if err != nil {
		http.Error(w, "unreadable body", http.StatusBadRequest)
		return
	}
	var event struct{ Type string }
	_ = json.Unmarshal(body, &event) // an unreadable type is shown as an empty one; the signature is what decides
	id := req.Header.Get("webhook-id")

	r.mu.Lock()
	defer r.mu.Unlock()
	verdict := "signature verified"
	if err := sign.Verify(r.secrets, req.Header.Get, body, time.Now(), sign.DefaultTolerance); err != nil {
		verdict = "REFUSED: " + err.Error()
		w.WriteHeader(http.StatusUnauthorized)
	} else {
		w.WriteHeader(http.StatusNoContent)
	}
	fmt.Fprintf(r.out, "%s  sample endpoint received %s %s, %d bytes: %s\n", time.Now().Format("15:04:05.000"), event.Type, id, len(body), verdict)
}
