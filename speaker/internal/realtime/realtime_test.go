package realtime

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// asOther makes the test binary do something in a process of its own.
const asOther = "SEAMARK_REALTIME_TEST"

// policy returns that of the calling thread.
func policy() uint32 {
	a, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return math.MaxUint32
	}
	return a.Policy
}

// A goroutine's thread gets a real-time policy, and what that goroutine starts does not.
func TestLockThread(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	type result struct {
		policy           Policy
		err              error
		is, other, after uint32
		process          string
	}
	done := make(chan result)
	go func() {
		var r result
		var unlock func()
		unlock, r.policy, r.err = LockThread()
		r.is = policy()
		other := make(chan uint32)
		go func() { other <- policy() }()
		r.other = <-other
		out, _ := exec.Command("chrt", "-p", "0").CombinedOutput()
		r.process = string(out)
		runtime.LockOSThread() // still this thread, to look at what it is afterwards
		unlock()
		r.after = policy()
		done <- r
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	want := map[Policy]uint32{RoundRobin: unix.SCHED_RR, Deadline: unix.SCHED_DEADLINE}[r.policy]
	if r.is != want {
		t.Errorf("LockThread says %s, the kernel %d", r.policy, r.is)
	}
	if r.other != unix.SCHED_NORMAL {
		t.Errorf("another goroutine's thread has the policy %d", r.other)
	}
	if r.after != unix.SCHED_NORMAL {
		t.Errorf("after unlock the thread has the policy %d", r.after)
	}
	if !strings.Contains(r.process, "SCHED_OTHER") {
		t.Errorf("a process that it started: %s", r.process)
	}
}

// The kernel takes the attributes of Deadline, whatever LockThread gets here, and lets the thread have more than its budget where
// nobody else needs it.
func TestBudgetIsNoLimit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	done := make(chan error)
	var has unix.SchedAttr
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends with this goroutine
		err := set(withBudget())
		if a, gerr := unix.SchedGetAttr(0, 0); gerr == nil {
			has = *a
		}
		done <- err
	}()
	switch err := <-done; {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EBUSY):
		t.Skipf("this host has no SCHED_DEADLINE for us: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	if has.Policy != unix.SCHED_DEADLINE || has.Runtime != budget || has.Flags&unix.SCHED_FLAG_RECLAIM == 0 {
		t.Errorf("the thread has policy %d and %d ns in %d, flags %#x", has.Policy, has.Runtime, has.Period, has.Flags)
	}
}

// Without the capability the thread is an ordinary one, and the error names what is missing.
func TestWithoutCapability(t *testing.T) {
	if os.Getenv(asOther) != "" {
		_, got, err := LockThread()
		if got != Ordinary || err == nil || !strings.Contains(err.Error(), "SYS_NICE") {
			t.Errorf("%s, %v", got, err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	cmd := exec.Command("setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice", os.Args[0], "-test.run=^TestWithoutCapability$", "-test.v")
	cmd.Env = append(os.Environ(), asOther+"=t")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS") {
		t.Fatalf("%v\n%s", err, out)
	}
}
