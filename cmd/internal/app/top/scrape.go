package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// maxAnswer bounds what a process may answer, in bytes.
const maxAnswer = 8 << 20

// The metrics that are read; everything else is left out.
const (
	startTime          = "process_start_time_seconds"
	buildInfo          = "sealpost_build_info"
	requestDuration    = "sealpost_gateway_request_duration_seconds"
	eventsAccepted     = "sealpost_events_accepted_total"
	eventsRejected     = "sealpost_events_rejected_total"
	deliveriesAccepted = "sealpost_deliveries_accepted_total"
	attempts           = "sealpost_sender_attempts_total"
	attemptFailures    = "sealpost_sender_attempt_failures_total"
	attemptDuration    = "sealpost_sender_attempt_duration_seconds"
	deliveriesEnded    = "sealpost_sender_deliveries_total"
	deliveryLatency    = "sealpost_sender_delivery_latency_seconds"
	deadLetters        = "sealpost_dead_letters_total"
	inFlight           = "sealpost_sender_in_flight"
)

// gatewayMetrics and senderMetrics list what each program has to show.
func gatewayMetrics() []string {
	return []string{startTime, buildInfo, requestDuration, eventsAccepted, eventsRejected, deliveriesAccepted}
}

func senderMetrics() []string {
	return []string{startTime, buildInfo, attempts, attemptFailures, attemptDuration, deliveriesEnded, deliveryLatency, deadLetters, inFlight}
}

// series is one line of a metric; of a histogram all of its lines.
type series struct {
	labels  map[string]string
	value   float64
	buckets histogram
}

// metrics are the series of each metric by its name.
type metrics map[string][]series

// scrape is what one process answered.
type scrape struct {
	at      time.Time
	metrics metrics // nil: err says why
	err     error
}

// fetch reads the metrics of the process at an admin address.
func fetch(ctx context.Context, client *http.Client, address string) scrape {
	body, status, err := get(ctx, client, "http://"+address+"/metrics")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("/metrics is answered with %d", status)
	}
	s := scrape{at: time.Now(), err: err}
	if err == nil {
		s.metrics, s.err = parse(string(body))
	}
	return s
}

func get(ctx context.Context, client *http.Client, url string) (body []byte, status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, 0, errors.Unwrap(err) // without the URL, which stands before it already
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	return body, response.StatusCode, err
}

// parse reads the text format of metrics.
func parse(text string) (metrics, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	m := make(metrics)
	for _, name := range append(gatewayMetrics(), senderMetrics()...) {
		if _, done := m[name]; done {
			continue
		}
		for _, metric := range families[name].GetMetric() {
			s := series{labels: make(map[string]string), value: metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + metric.GetUntyped().GetValue()}
			for _, pair := range metric.GetLabel() {
				s.labels[pair.GetName()] = pair.GetValue()
			}
			for _, b := range metric.GetHistogram().GetBucket() {
				s.buckets = append(s.buckets, bucket{upTo: b.GetUpperBound(), count: float64(b.GetCumulativeCount())})
			}
			m[name] = append(m[name], s)
		}
	}
	return m, nil
}

// match chooses series by their labels; nil chooses all.
type match func(labels map[string]string) bool

func having(label, value string) match {
	return func(labels map[string]string) bool { return labels[label] == value }
}

// publishing chooses the routes on which events come in.
func publishing(labels map[string]string) bool {
	route := labels["route"]
	return strings.HasSuffix(route, "/events") || strings.HasSuffix(route, "/events/batch")
}

// sum adds up the series of a metric.
func (m metrics) sum(name string, chosen match) float64 {
	var total float64
	for _, s := range m[name] {
		if chosen == nil || chosen(s.labels) {
			total += s.value
		}
	}
	return total
}

// histogram adds up the series of a histogram.
func (m metrics) histogram(name string, chosen match) histogram {
	var total histogram
	for _, s := range m[name] {
		if chosen == nil || chosen(s.labels) {
			total = total.plus(s.buckets)
		}
	}
	return total
}
