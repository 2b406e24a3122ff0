package trace

import (
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// SettingError is a variable of OpenTelemetry whose value is wrong, or stands for
// something that is not supported.
type SettingError struct {
	Variable string
	Problem  string
}

// Error returns both.
func (e *SettingError) Error() string { return e.Variable + ": " + e.Problem }

const (
	defaultQueue = 2048 // spans; OpenTelemetry's default
	maxQueue     = 1 << 16
)

// Configured reports whether the environment asks for traces: with
// OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, unless
// OTEL_SDK_DISABLED is true or OTEL_TRACES_EXPORTER is none. origin is scheme,
// host and port of the collector. The error is a *SettingError: where
// OpenTelemetry falls back to a default, Sealpost does not start.
func Configured() (origin string, ok bool, err error) {
	if strings.EqualFold(env("OTEL_SDK_DISABLED"), "true") {
		return "", false, nil
	}
	switch exporter := env("OTEL_TRACES_EXPORTER"); exporter {
	case "", "otlp":
	case "none":
		return "", false, nil
	default:
		return "", false, &SettingError{"OTEL_TRACES_EXPORTER", fmt.Sprintf("%q is neither otlp nor none", exporter)}
	}
	name, endpoint := firstOf("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	if endpoint == "" {
		return "", false, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", false, &SettingError{name, "must be a URL like http://127.0.0.1:4318"}
	}
	switch name, protocol := firstOf("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); protocol {
	case "", "http/protobuf", "http/json":
	default:
		return "", false, &SettingError{name, fmt.Sprintf("%q is neither http/protobuf nor http/json; collectors listen for them on port 4318", protocol)}
	}
	if err := checkSampler(); err != nil {
		return "", false, err
	}
	if _, err := queueSize(); err != nil {
		return "", false, err
	}
	return u.Scheme + "://" + u.Host, true, nil
}

func checkSampler() error {
	switch sampler := env("OTEL_TRACES_SAMPLER"); strings.ToLower(sampler) {
	case "", "always_on", "always_off", "parentbased_always_on", "parentbased_always_off":
		return nil
	case "traceidratio", "parentbased_traceidratio":
	default:
		return &SettingError{"OTEL_TRACES_SAMPLER", fmt.Sprintf("%q is not a sampler like parentbased_traceidratio", sampler)}
	}
	arg := env("OTEL_TRACES_SAMPLER_ARG")
	if arg == "" {
		return nil
	}
	if ratio, err := strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
		return &SettingError{"OTEL_TRACES_SAMPLER_ARG", fmt.Sprintf("%q is not a share between 0 and 1", arg)}
	}
	return nil
}

// queueSize returns how many spans may wait for their export.
func queueSize() (int, error) {
	const name = "OTEL_BSP_MAX_QUEUE_SIZE"
	text := env(name)
	if text == "" {
		return defaultQueue, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxQueue {
		return 0, &SettingError{name, fmt.Sprintf("%q is not a number of spans between 1 and %d", text, maxQueue)}
	}
	return n, nil
}

func env(name string) string { return strings.TrimSpace(os.Getenv(name)) }

// firstOf returns the first variable that is set, and its value.
func firstOf(names ...string) (name, value string) {
	for _, name := range names {
		if value := env(name); value != "" {
			return name, value
		}
	}
	return "", ""
}
