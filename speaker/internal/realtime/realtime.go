package realtime

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Policy is how the kernel schedules a thread.
type Policy string

// The policies, best first.
const (
	// RoundRobin runs before all ordinary threads, until it blocks.
	RoundRobin Policy = "SCHED_RR"
	// Deadline does so for budget in each period, and for longer where no other thread of this policy needs the processor.
	Deadline Policy = "SCHED_DEADLINE"
	// Ordinary is what all threads have.
	Ordinary Policy = "SCHED_OTHER"
)

const (
	// priority is the lowest of the real-time priorities: kernel threads that serve interrupts have 50.
	priority = 1
	// budget and period of SCHED_DEADLINE, in nanoseconds. The kernel admits no more than 95 % of all processors.
	budget = 1_000_000
	period = 10_000_000
)

// LockThread binds the calling goroutine to a thread and gives the thread a real-time policy. Unlock undoes both, and is for the same
// goroutine.
//
// A kernel with CONFIG_RT_GROUP_SCHED and the cpu controller of cgroup v1 denies SCHED_RR to every container, but not
// SCHED_DEADLINE, which is therefore tried second: its promises are more, but a cpuset or a busy host can be in its way. The error
// says why the policy is Ordinary; the thread works all the same.
func LockThread() (unlock func(), policy Policy, err error) {
	runtime.LockOSThread()
	rr := set(&unix.SchedAttr{Policy: unix.SCHED_RR, Priority: priority, Flags: unix.SCHED_FLAG_RESET_ON_FORK})
	if rr == nil {
		return undo, RoundRobin, nil
	}
	deadline := set(withBudget())
	if deadline == nil {
		return undo, Deadline, nil
	}
	if errors.Is(rr, unix.EPERM) && errors.Is(deadline, unix.EPERM) {
		err = fmt.Errorf("give a thread a real-time policy: %w: it needs the capability SYS_NICE", rr)
	} else {
		err = fmt.Errorf("give a thread a real-time policy: %s: %w; %s: %w", RoundRobin, rr, Deadline, deadline)
	}
	return runtime.UnlockOSThread, Ordinary, err
}

// withBudget returns the attributes of Deadline. Who has used up the budget sleeps until the next period, even where processors are
// idle, unless what other threads of this policy leave of theirs may be used as well (GRUB,
// https://docs.kernel.org/scheduler/sched-deadline.html#bandwidth-reclaiming): heartbeats that name a thousand addresses take more than
// the budget, and were up to 57 ms late.
func withBudget() *unix.SchedAttr {
	return &unix.SchedAttr{
		Policy: unix.SCHED_DEADLINE, Runtime: budget, Deadline: period, Period: period,
		Flags: unix.SCHED_FLAG_RESET_ON_FORK | unix.SCHED_FLAG_RECLAIM,
	}
}

// undo makes the thread an ordinary one again. A thread that does not become one must not serve other goroutines: it stays locked,
// and ends with this one.
func undo() {
	if set(&unix.SchedAttr{Policy: unix.SCHED_NORMAL}) == nil {
		runtime.UnlockOSThread()
	}
}

// set changes the calling thread. With SCHED_FLAG_RESET_ON_FORK, threads and processes that it starts are ordinary ones; under
// SCHED_DEADLINE it could not start any without.
func set(a *unix.SchedAttr) error { return unix.SchedSetAttr(0, a, 0) }
