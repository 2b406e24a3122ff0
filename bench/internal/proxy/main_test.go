package proxy

import (
	"os"
	"testing"

	"github.com/sealpost/sealpost/core/leaktest"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }
