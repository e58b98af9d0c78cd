package bench

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSince(t *testing.T) {
	const s = time.Second
	before := Accounts{machine: 100 * s, byName: map[string]Usage{
		"etcd": {Name: "etcd", Count: 1, CPU: 5 * s, RSS: 10, Peak: 10},
		"idle": {Name: "idle", Count: 1, CPU: 7 * s},
	}}
	now := Accounts{machine: 120 * s, byName: map[string]Usage{
		"etcd": {Name: "etcd", Count: 1, CPU: 8 * s, RSS: 20, Peak: 30},
		"idle": {Name: "idle", Count: 1, CPU: 7 * s},
		"new":  {Name: "new", Count: 2, CPU: 4 * s},
		Self:   {Name: Self, Count: 1, CPU: 6 * s},
	}}
	want := []Usage{
		{Name: Self, Count: 1, CPU: 6 * s},
		{Name: "new", Count: 2, CPU: 4 * s},
		{Name: "etcd", Count: 1, CPU: 3 * s, RSS: 20, Peak: 30},
		{Name: Others, CPU: 7 * s},
	}
	if diff := cmp.Diff(want, now.Since(before, time.Millisecond)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := now.Busy(before); got != 7*s {
		t.Errorf("the lab was busy for %s, want 7s: etcd and new", got)
	}
}

// What a process reads of itself grows as it works.
func TestReadUsage(t *testing.T) {
	before, err := ReadUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if before.RSS == 0 || before.Peak < before.RSS {
		t.Errorf("resident are %d bytes, at the most %d", before.RSS, before.Peak)
	}
	hoard := make([]byte, 64<<20)
	for end, i := time.Now().Add(100*time.Millisecond), 0; time.Now().Before(end); i++ {
		hoard[i*4096%len(hoard)]++
	}
	now, err := ReadUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if now.CPU-before.CPU < 20*time.Millisecond || now.CPU-before.CPU > 10*time.Second {
		t.Errorf("100 ms of work count as %s", now.CPU-before.CPU)
	}
	if now.Peak-before.Peak < 32<<20 {
		t.Errorf("64 MiB in use raise the peak from %d to %d only", before.Peak, now.Peak)
	}
	if hoard[0] == 0 {
		t.Error("nothing was done")
	}
}

func TestReadUsageOfNobody(t *testing.T) {
	if u, err := ReadUsage(1 << 30); err == nil {
		t.Errorf("a process that cannot be has used %+v", u)
	}
}
