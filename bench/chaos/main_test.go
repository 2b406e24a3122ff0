package main

import (
	"os"
	"testing"

	"github.com/sealpost/sealpost/core/leaktest"
)

// TestMain is the process of attackers, too, which chaos starts from its own binary:
// here, the test's.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == attackRole {
		os.Exit(run(os.Args[1:], os.Stdout))
	}
	os.Exit(leaktest.Run(m))
}
