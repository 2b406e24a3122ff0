package top

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/redisstore/redistest"
)

var shared redistest.Shared

func TestMain(m *testing.M) {
	code := m.Run()
	shared.Stop()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
