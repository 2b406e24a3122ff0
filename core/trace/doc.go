// Package trace makes OpenTelemetry spans and exports them by OTLP over HTTP. It
// is the only package that knows OpenTelemetry; others know core.Tracer.
//
//	Start ──▶ sampler ──▶ span ── End ──▶ bound ──▶ batches ──▶ export
//	          (else nil)                  full: dropped         failed: dropped
//
// What is exported, how much, and where to, is read from OpenTelemetry's own
// environment variables; see Configured.
package trace
