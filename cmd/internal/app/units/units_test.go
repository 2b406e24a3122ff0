package units

import "testing"

func TestBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0.0 KiB", 512: "0.5 KiB", 3 << 20: "3.0 MiB", 5 << 30: "5.0 GiB", 3 << 40: "3072.0 GiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}
