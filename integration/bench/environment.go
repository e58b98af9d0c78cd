package bench

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Environment is where and when something was measured.
type Environment struct {
	Date   time.Time `json:"date"`
	Commit string    `json:"commit"` // with "-dirty" if files were changed since
	CPU    string    `json:"cpu"`
	Cores  int       `json:"cores"`
	Memory uint64    `json:"memory"` // bytes
	Kernel string    `json:"kernel"`
	Go     string    `json:"go"`
	// Load is the load average of the last minute, at the start: what else the machine does.
	Load float64 `json:"load"`
}

// ReadEnvironment describes this machine, now, and the checkout at source.
func ReadEnvironment(ctx context.Context, source string) (Environment, error) {
	e := Environment{Date: time.Now().UTC().Truncate(time.Second), Cores: runtime.NumCPU(), Go: runtime.Version()}
	if err := e.readMachine(); err != nil {
		return e, fmt.Errorf("describe the machine: %w", err)
	}
	commit, err := exec.CommandContext(ctx, "git", "-C", source, "describe", "--always", "--dirty", "--exclude=*").Output()
	if err != nil {
		return e, fmt.Errorf("which commit %s is: %w", source, err)
	}
	e.Commit = strings.TrimSpace(string(commit))
	return e, nil
}

func (e *Environment) readMachine() error {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return err
	}
	cpus, err := fs.CPUInfo()
	if err != nil {
		return err
	}
	e.CPU = "unknown CPU"
	if len(cpus) > 0 && cpus[0].ModelName != "" {
		e.CPU = cpus[0].ModelName
	}
	memory, err := fs.Meminfo()
	if err != nil {
		return err
	}
	if memory.MemTotalBytes != nil {
		e.Memory = *memory.MemTotalBytes
	}
	load, err := fs.LoadAvg()
	if err != nil {
		return err
	}
	e.Load = load.Load1
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	e.Kernel = unix.ByteSliceToString(uts.Release[:])
	return nil
}

// String describes the environment in one line.
func (e Environment) String() string {
	return fmt.Sprintf("%s, commit %s, %d × %s, %.0f GiB, Linux %s, %s, load average %.1f at the start",
		e.Date.Format("2006-01-02 15:04 MST"), e.Commit, e.Cores, e.CPU, float64(e.Memory)/(1<<30), e.Kernel, e.Go, e.Load)
}
