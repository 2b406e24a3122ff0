package top

import (
	"os"
	"testing"

	"github.com/sealpost/sealpost/core/leaktest"
	"github.com/sealpost/sealpost/redisstore/redistest"
)

var shared redistest.Shared

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m, shared.Stop)) }
