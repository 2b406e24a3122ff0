package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/sealpost/sealpost/core/sender"
)

const (
	defaultTop = 10
	maxTop     = 128
)

// serveTop answers `GET /top?n=10` with the endpoints that this process's sender
// had most trouble with. It is JSON for people and programs alike.
func (a *admin) serveTop(top func(n int) sender.Top) {
	a.mux.HandleFunc("GET /top", func(w http.ResponseWriter, r *http.Request) {
		n := defaultTop
		if given := r.URL.Query().Get("n"); given != "" {
			var err error
			if n, err = strconv.Atoi(given); err != nil || n < 1 || n > maxTop {
				http.Error(w, fmt.Sprintf("n must be a number from 1 to %d", maxTop), http.StatusBadRequest)
				return
			}
		}
		answer := top(n)
		if answer.Endpoints == nil {
			answer.Endpoints = []sender.Trouble{}
		}
		w.Header().Set("Content-Type", "application/json")
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(answer); err != nil {
			a.log.Debug("top answer not written", "err", err)
		}
	})
}
