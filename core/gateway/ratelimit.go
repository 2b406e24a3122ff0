package gateway

import (
	"strconv"
	"time"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/publish"
)

// quotaName is the name of the only quota policy.
const quotaName = `"publish"`

// quotaPolicy returns the RateLimit-Policy header of an organization's quota, ""
// if there is none. The window is the time in which an empty quota fills up.
//
// The headers are those of draft-ietf-httpapi-ratelimit-headers-11 (May 2026). The
// quota unit of events is in no registry, so it stands in a parameter of our own.
func quotaPolicy(q core.Quota) string {
	if !q.Limits() {
		return ""
	}
	b := strconv.AppendInt([]byte(quotaName+";q="), int64(q.Burst), 10)
	b = strconv.AppendInt(append(b, ";w="...), int64(max(q.Wait(float64(q.Burst)), time.Second)/time.Second), 10)
	return string(append(b, `;sealpost-unit="events"`...))
}

// tellLeft adds what is left of the caller's quota to the answer.
func (x *exchange) tellLeft(left publish.Allowance) {
	b := strconv.AppendInt([]byte(quotaName+";r="), int64(left.Events), 10)
	b = strconv.AppendInt(append(b, ";t="...), int64(left.Window/time.Second), 10)
	x.ctx.Response.Header.SetBytesV("RateLimit", b)
}
