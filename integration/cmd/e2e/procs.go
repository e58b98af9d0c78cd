package main

import (
	"fmt"
	"runtime"
	"time"

	"github.com/prometheus/procfs"
)

const (
	// carefulPerCPU specs at a time for each processor are what slow machines carry. With twice as many, on two slow processors with
	// a load beside, 3 of 153 failed: a server that did not listen yet when its container ran, kubectl exec after a grace period, a
	// host port of another spec.
	carefulPerCPU = 2
	// boldPerCPU are for where making the lab took no more processor time than fast. Half of all time is that of specs that try a
	// Service every two seconds until each of its six endpoints has answered: they wait.
	boldPerCPU = 5
	// maxProcs: specs share six nodes and their host ports.
	maxProcs = 12
)

// fast is the most processor time that a lab of six nodes with the specs' images takes on a machine that carries boldPerCPU: some 50 s
// where 8 specs at a time leave two thirds of two processors idle.
const fast = 90 * time.Second

// procsFor returns how many specs to run at a time on so many processors, when making the lab took so much of their time; 0: that
// is not known.
func procsFor(cpus int, used time.Duration) int {
	perCPU := carefulPerCPU
	if used > 0 && used <= fast {
		perCPU = boldPerCPU
	}
	return min(maxProcs, perCPU*cpus)
}

// busy is for how long this machine's processors have been busy, together.
func busy() (time.Duration, error) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return 0, fmt.Errorf("processor time of the machine: %w", err)
	}
	stat, err := fs.Stat()
	if err != nil {
		return 0, fmt.Errorf("processor time of the machine: %w", err)
	}
	c := stat.CPUTotal
	return time.Duration((c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ + c.Steal) * float64(time.Second)), nil
}

// chooseProcs sets how many specs run at a time, unless that was given, by what making the lab took since before.
func (o *runOptions) chooseProcs(before time.Duration) error {
	if o.procs > 0 {
		return nil
	}
	used := time.Duration(0)
	if o.name == "" {
		now, err := busy()
		if err != nil {
			return err
		}
		used = now - before
		fmt.Fprintf(o.lab.Progress, "making the lab took %.0f s of the processors' time\n", used.Seconds())
	}
	o.procs = procsFor(runtime.NumCPU(), used)
	return nil
}
