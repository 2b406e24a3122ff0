package retry_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core/retry"
)

// middle is the r at which the jitter is nothing.
const middle = 0.5

func TestDefaultSchedule(t *testing.T) {
	t.Parallel()
	s := retry.Default()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for n := 1; ; n++ {
		d, ok := s.Delay(n, middle)
		if !ok {
			break
		}
		got = append(got, d.String())
	}
	want := []string{"5s", "20s", "1m20s", "5m20s", "21m20s", "1h25m20s", "5h41m20s", "12h0m0s", "12h0m0s", "12h0m0s", "12h0m0s"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}
	if got, want := s.Total(), 55*time.Hour+35*time.Minute+5*time.Second; got != want {
		t.Errorf("Total = %v, want %v", got, want)
	}
}

func TestDelayEdges(t *testing.T) {
	t.Parallel()
	s := retry.Schedule{Base: 10 * time.Second, Factor: 2, Cap: time.Minute, MaxAttempts: 5}
	tests := []struct {
		name    string
		attempt int
		r       float64
		want    time.Duration
		ok      bool
	}{
		{name: "first, shortest", attempt: 1, r: 0, want: 8 * time.Second, ok: true},
		{name: "first, longest", attempt: 1, r: math.Nextafter(1, 0), want: 12 * time.Second, ok: true},
		{name: "below 1 counts as 1", attempt: 0, r: middle, want: 10 * time.Second, ok: true},
		{name: "far below 1 counts as 1", attempt: math.MinInt, r: middle, want: 10 * time.Second, ok: true},
		{name: "third", attempt: 3, r: middle, want: 40 * time.Second, ok: true},
		{name: "capped, jitter above the cap", attempt: 4, r: math.Nextafter(1, 0), want: 72 * time.Second, ok: true},
		{name: "last attempt", attempt: 5, r: middle},
		{name: "beyond the last", attempt: math.MaxInt, r: middle},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := s.Delay(tt.attempt, tt.r)
			if ok != tt.ok || (got-tt.want).Abs() > time.Microsecond {
				t.Errorf("Delay(%d, %v) = %v, %t; want %v, %t", tt.attempt, tt.r, got, ok, tt.want, tt.ok)
			}
		})
	}
}

// TestScheduleProperties draws valid schedules, extreme ones among them: waits
// are positive, never shrink without jitter, stay within the cap ±20 %, and their
// sum is Total.
func TestScheduleProperties(t *testing.T) {
	t.Parallel()
	for range 500 {
		s := retry.Schedule{
			Base:        1 + time.Duration(rand.Int64N(int64(retry.MaxCap))),
			Factor:      1 + math.Exp(rand.Float64()*710-10), // up to the end of float64
			MaxAttempts: 1 + rand.IntN(retry.MaxAttempts),
		}
		s.Cap = s.Base + time.Duration(rand.Int64N(int64(retry.MaxCap-s.Base)+1))
		if err := s.Validate(); err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
		var sum, last time.Duration
		for n := 1; n < s.MaxAttempts; n++ {
			plain, ok := s.Delay(n, middle)
			drawn, ok2 := s.Delay(n, rand.Float64())
			if !ok || !ok2 || plain <= 0 || plain > s.Cap || plain < last {
				t.Fatalf("%+v: Delay(%d) = %v, %t after %v", s, n, plain, ok, last)
			}
			if f := float64(drawn); f < 0.8*float64(plain)-1 || f > 1.2*float64(plain)+1 {
				t.Fatalf("%+v: Delay(%d) drawn %v around %v", s, n, drawn, plain)
			}
			sum, last = sum+plain, plain
		}
		if _, ok := s.Delay(s.MaxAttempts, middle); ok {
			t.Fatalf("%+v: a wait after the last attempt", s)
		}
		if diff := (s.Total() - sum).Abs(); diff > time.Duration(s.MaxAttempts) {
			t.Fatalf("%+v: Total %v, sum %v", s, s.Total(), sum)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := retry.Default()
	tests := []struct {
		name   string
		change func(*retry.Schedule)
		want   string
	}{
		{name: "good", change: func(*retry.Schedule) {}},
		{name: "one attempt", change: func(s *retry.Schedule) { s.MaxAttempts = 1 }},
		{name: "constant", change: func(s *retry.Schedule) { s.Factor, s.Cap = 1, s.Base }},
		{name: "no base", change: func(s *retry.Schedule) { s.Base = 0 }, want: "base: must be above 0"},
		{name: "negative base", change: func(s *retry.Schedule) { s.Base = -1 }, want: "base: must be above 0"},
		{name: "shrinking", change: func(s *retry.Schedule) { s.Factor = 0.99 }, want: "factor: must be a finite number of at least 1"},
		{name: "NaN", change: func(s *retry.Schedule) { s.Factor = math.NaN() }, want: "factor: must be a finite number of at least 1"},
		{name: "infinite", change: func(s *retry.Schedule) { s.Factor = math.Inf(1) }, want: "factor: must be a finite number of at least 1"},
		{name: "cap below base", change: func(s *retry.Schedule) { s.Cap = s.Base - 1 }, want: "cap: must not be below base"},
		{name: "cap beyond reason", change: func(s *retry.Schedule) { s.Cap = retry.MaxCap + 1 }, want: "cap: must not exceed 720h0m0s"},
		{name: "no attempts", change: func(s *retry.Schedule) { s.MaxAttempts = 0 }, want: "max attempts: must be between 1 and 1000"},
		{name: "too many attempts", change: func(s *retry.Schedule) { s.MaxAttempts = 1001 }, want: "max attempts: must be between 1 and 1000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := good
			tt.change(&s)
			got := ""
			if err := s.Validate(); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("Validate = %q, want %q", got, tt.want)
			}
		})
	}
}
