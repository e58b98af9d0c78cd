package bench

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
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

// What is read of this process agrees with what the kernel tells it of itself.
func TestReadUsage(t *testing.T) {
	before, err := ReadUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if before.RSS == 0 || before.Peak < before.RSS {
		t.Errorf("resident are %d bytes, at the most %d", before.RSS, before.Peak)
	}
	hoard, err := unix.Mmap(-1, 0, 64<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // no heap's leftovers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(hoard) }()
	start := rusage(t)
	for rusage(t)-start < 100*time.Millisecond {
		for i := 0; i < len(hoard); i += 4096 {
			hoard[i]++
		}
	}
	now, err := ReadUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const tick = 10 * time.Millisecond
	if used := now.CPU - before.CPU; used < 100*time.Millisecond-2*tick || used > rusage(t)-start+5*tick {
		t.Errorf("work of at least 100 ms counts as %s", used)
	}
	if grown := now.RSS - before.RSS; grown < 60<<20 || grown > 100<<20 || now.Peak < now.RSS {
		t.Errorf("64 MiB in use raise what is resident from %d to %d, at the most %d", before.RSS, now.RSS, now.Peak)
	}
}

// rusage is the CPU time of this process.
func rusage(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestReadUsageOfNobody(t *testing.T) {
	if u, err := ReadUsage(1 << 30); err == nil {
		t.Errorf("a process that cannot be has used %+v", u)
	}
}
