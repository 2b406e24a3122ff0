package egress

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/valyala/fasthttp"
)

const (
	// maxHeadBytes bounds the head of a response, and that of each interim one.
	maxHeadBytes = 16 << 10
	// maxBodyBytes bounds what is read of a response's body, framing included.
	maxBodyBytes = 64 << 10
	// maxInterim bounds the 1xx responses before the final one.
	maxInterim = 8
	// maxRetryAfterBytes bounds what is kept of the header; longer is garbage.
	maxRetryAfterBytes = 64
)

// errBadResponse is wrapped by every error about bytes that came and are not an
// HTTP/1.x response.
var errBadResponse = errors.New("not an HTTP/1.x response")

// answer is what is kept of a response.
type answer struct {
	status     int
	retryAfter string
	disable    bool // no more deliveries are wanted
	keep       bool // the connection can serve another request
}

// receive reads a response. A body beyond its bound is no error, the status
// counts; the connection just cannot be kept. An error is that of the connection
// or wraps errBadResponse.
func receive(cn *conn, s *scratch) (answer, error) {
	cn.budget = (maxInterim + 1) * maxHeadBytes
	s.reader.Reset(cn)
	status, err := readHead(s)
	if err != nil {
		return answer{}, cause(cn, err)
	}
	ans := answer{status: status, retryAfter: retryAfter(&s.parser.Header), disable: disable(&s.parser.Header)}
	if status == http.StatusSwitchingProtocols {
		return ans, nil // nobody asked for that; what follows is not HTTP
	}
	cn.budget = maxBodyBytes
	complete, err := readBody(s, status)
	switch {
	case cn.spent || errors.Is(err, fasthttp.ErrBodyTooLarge):
		return ans, nil
	case err != nil:
		return answer{}, cause(cn, err)
	}
	// Whatever follows a complete response was not asked for and would be taken
	// for the next one.
	ans.keep = complete && !s.parser.Header.ConnectionClose() && s.reader.Buffered() == 0 && cn.readErr == nil
	return ans, nil
}

// cause returns the connection's error if there was one: the parser wraps it in
// its own words or replaces it. Otherwise what came made no sense.
func cause(cn *conn, err error) error {
	switch {
	case errors.Is(err, errBadResponse):
		return err
	case cn.readErr != nil:
		return cn.readErr
	}
	return fmt.Errorf("%w: malformed or too long", errBadResponse)
}

// readHead reads heads up to the first that is not interim and leaves that one
// in the parser.
func readHead(s *scratch) (status int, err error) {
	for range maxInterim + 1 {
		if status, err = peekStatus(s.reader); err != nil {
			return 0, err
		}
		if err = s.parser.Header.Read(s.reader); err != nil {
			return 0, err
		}
		if status >= 200 || status == http.StatusSwitchingProtocols {
			return status, nil
		}
	}
	return 0, fmt.Errorf("%w: too many interim responses", errBadResponse)
}

// peekStatus returns the status of the response that begins here. The parser
// alone would take 000 for 200, and any version for HTTP.
func peekStatus(r *bufio.Reader) (int, error) {
	const shape = "HTTP/1.x NNN"
	b, err := r.Peek(len(shape))
	for i := range b { // what there is; a wrong start need not be completed
		switch c := b[i]; shape[i] {
		case 'x', 'N':
			if c < '0' || c > '9' {
				return 0, fmt.Errorf("%w: no status line", errBadResponse)
			}
		default:
			if c != shape[i] {
				return 0, fmt.Errorf("%w: no status line", errBadResponse)
			}
		}
	}
	if err != nil {
		return 0, err
	}
	status := int(b[9]-'0')*100 + int(b[10]-'0')*10 + int(b[11]-'0')
	if status < 100 {
		return 0, fmt.Errorf("%w: status %03d", errBadResponse, status)
	}
	return status, nil
}

// readBody reads the body of the response whose head is in the parser, and
// throws it away. complete is false if its end was not seen or not marked.
func readBody(s *scratch, status int) (complete bool, err error) {
	length := s.parser.Header.ContentLength()
	switch {
	case status == http.StatusNoContent || status == http.StatusNotModified || length == 0:
		return true, nil
	case length > 0:
		_, err := s.reader.Discard(min(length, maxBodyBytes))
		return length <= maxBodyBytes, err
	case length == -1:
		if err := s.parser.ReadBody(s.reader, maxBodyBytes); err != nil {
			return false, err
		}
		return true, s.parser.Header.ReadTrailer(s.reader)
	default:
		return false, readToEnd(s.reader)
	}
}

// readToEnd reads a body that ends with the connection. Over TLS many servers
// end it without the farewell that would tell an end from a cut; as nothing of
// the body is used, both will do.
func readToEnd(r *bufio.Reader) error {
	for {
		_, err := r.Discard(maxHeadBytes)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// disable reports whether the response asks for no more deliveries. The parser
// has taken the spaces off the value.
func disable(h *fasthttp.ResponseHeader) bool {
	return bytes.EqualFold(h.Peek("Webhook-Delivery"), []byte("disable"))
}

func retryAfter(h *fasthttp.ResponseHeader) string {
	v := h.Peek("Retry-After")
	if len(v) == 0 || len(v) > maxRetryAfterBytes {
		return ""
	}
	return string(v)
}
