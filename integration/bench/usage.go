package bench

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/prometheus/procfs"

	"github.com/seamark-io/seamark/integration/lab"
)

// Usage is what processes of one name have used. Sizes are in bytes.
type Usage struct {
	Name  string
	Count int           // of processes
	CPU   time.Duration // user and system, in steps of 10 ms
	RSS   uint64        // VmRSS: resident now, the program's own text among it
	Peak  uint64        // VmHWM: the most that was ever resident; of several processes, the sum of that
}

// ReadUsage reads what a process has used since it started.
func ReadUsage(pid int) (Usage, error) {
	proc, err := procfs.NewProc(pid)
	if err != nil {
		return Usage{}, fmt.Errorf("process %d: %w", pid, err)
	}
	stat, err := proc.Stat()
	if err != nil {
		return Usage{}, fmt.Errorf("process %d: %w", pid, err)
	}
	status, err := proc.NewStatus()
	if err != nil {
		return Usage{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return Usage{Name: stat.Comm, Count: 1, CPU: seconds(stat.CPUTime()), RSS: status.VmRSS, Peak: status.VmHWM}, nil
}

// Accounts say who has used the machine up to one moment.
type Accounts struct {
	byName  map[string]Usage
	machine time.Duration // the time that its cores were busy, together
}

// The names in [Accounts] of what is not a process of the lab.
const (
	Self   = "this benchmark"
	Others = "everything else on the machine"
)

// ReadAccounts reads what the processes of a lab have used, and this one, which makes the load.
func ReadAccounts(l *lab.Lab) (Accounts, error) {
	a := Accounts{byName: make(map[string]Usage)}
	for _, plan := range l.Plan().Hosts {
		h, err := l.Host(plan.Name)
		if err != nil {
			return a, err
		}
		for _, p := range h.Processes() {
			a.add(p.Name, p.PID)
		}
	}
	a.add(Self, os.Getpid())
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return a, fmt.Errorf("CPU time of the machine: %w", err)
	}
	stat, err := fs.Stat()
	if err != nil {
		return a, fmt.Errorf("CPU time of the machine: %w", err)
	}
	c := stat.CPUTotal
	a.machine = seconds(c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ + c.Steal)
	return a, nil
}

func (a Accounts) add(name string, pid int) {
	u, err := ReadUsage(pid)
	if err != nil {
		return // it has ended meanwhile
	}
	sum := a.byName[name]
	a.byName[name] = Usage{name, sum.Count + 1, sum.CPU + u.CPU, sum.RSS + u.RSS, sum.Peak + u.Peak}
}

// Since returns what was used since before: CPU time is the difference, sizes are those of now. The largest users of CPU
// come first, [Others] last; who used less than least is left out.
func (a Accounts) Since(before Accounts, least time.Duration) []Usage {
	others := Usage{Name: Others, CPU: a.machine - before.machine}
	var users []Usage
	for name, u := range a.byName {
		u.CPU -= before.byName[name].CPU
		others.CPU -= u.CPU
		if u.CPU >= least {
			users = append(users, u)
		}
	}
	slices.SortFunc(users, func(a, b Usage) int {
		return cmp.Or(cmp.Compare(b.CPU, a.CPU), cmp.Compare(a.Name, b.Name))
	})
	if others.CPU >= least {
		users = append(users, others)
	}
	return users
}

// Busy returns the time that the processes of the lab have used since before, together.
func (a Accounts) Busy(before Accounts) (busy time.Duration) {
	for _, u := range a.Since(before, 0) {
		if u.Name != Others && u.Name != Self {
			busy += u.CPU
		}
	}
	return busy
}

// Of returns what processes of that name had used.
func (a Accounts) Of(name string) Usage { return a.byName[name] }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
