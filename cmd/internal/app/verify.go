package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/sealpost/sealpost/core/sign"
)

// maxVerifyBody bounds the body that verify reads, in bytes.
const maxVerifyBody = 16 << 20

// verify checks a delivery as a receiver would, to find out why a signature
// does not match.
type verify struct {
	Secret    string        `required:"" env:"SEALPOST_VERIFY_SECRET" help:"The endpoint's signing secret, whsec_…; better given by the variable than by the flag."`
	ID        string        `name:"id" required:"" help:"The webhook-id header."`
	Timestamp string        `required:"" help:"The webhook-timestamp header."`
	Signature string        `required:"" help:"The webhook-signature header."`
	Tolerance time.Duration `default:"5m" help:"How far the timestamp may be from now; 0s: any."`
}

func (v *verify) run(_ context.Context, env environment) error {
	key, err := sign.ParseSecret(v.Secret)
	if err != nil {
		return badSetting("--secret", err.Error())
	}
	if !strings.Contains(v.Signature, "v1,") {
		return badSetting("--signature", "must look like v1,… as the header does, several separated by spaces")
	}
	headers := signatureHeaders{"webhook-id": v.ID, "webhook-timestamp": v.Timestamp, "webhook-signature": v.Signature}
	body, err := io.ReadAll(io.LimitReader(os.Stdin, maxVerifyBody))
	if err != nil {
		return fmt.Errorf("read the body from standard input: %w", err)
	}
	tolerance := v.Tolerance
	if tolerance == 0 {
		tolerance = math.MaxInt64
	}
	check := func(body []byte) error {
		return sign.Verify([][]byte{key}, headers.get, body, time.Now(), tolerance)
	}
	if err := check(body); err != nil {
		if trimmed, ok := bytes.CutSuffix(body, []byte("\n")); ok && check(trimmed) == nil {
			return errors.New("the signature fits the input without its last line break: use printf %s instead of echo")
		}
		return err
	}
	_, err = fmt.Fprintln(env.stdout, "signature verified")
	return err
}

// signatureHeaders are the three headers that a signature is checked with.
type signatureHeaders map[string]string

func (h signatureHeaders) get(name string) string { return h[name] }
