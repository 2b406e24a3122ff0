package app

import (
	"slices"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/cmd/internal/app/doctor"
)

// TestChecksAreDocumented compares the checks of doctor with their table.
func TestChecksAreDocumented(t *testing.T) {
	t.Parallel()
	var documented []string
	for _, row := range tableRows(t, "docs/DIAGNOSIS.md", "| check | warning | error |") {
		documented = append(documented, strings.Trim(row[0], "`"))
	}
	if !slices.Equal(documented, doctor.Names()) {
		t.Errorf("docs/DIAGNOSIS.md lists the checks\n%v\nthe program makes\n%v", documented, doctor.Names())
	}
}

// TestDoctorWithoutRedis: errors are status 2 and no usage error, and wrong
// settings are one.
func TestDoctorWithoutRedis(t *testing.T) {
	t.Parallel()
	o := invoke(t, Gateway, "doctor", "--redis-url=redis://:hunter2@127.0.0.1:1/0", "--master-keys="+masterKey())
	if o.status != exitErrors || o.stderr != "" || !strings.Contains(o.stdout, "127.0.0.1:1 does not answer") || strings.Contains(o.stdout, "hunter2") {
		t.Errorf("%+v", o)
	}
	o = invoke(t, Gateway, "doctor", "--redis-url=http://:hunter2@127.0.0.1")
	if o.status != exitUsage || !strings.Contains(o.stderr, "SEALPOST_REDIS_URL") || strings.Contains(o.stderr, "hunter2") {
		t.Errorf("%+v", o)
	}
}
