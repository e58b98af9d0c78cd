package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// daemon is a program that runs on a host as long as the host does.
type daemon struct {
	name string // of the program, and so of its process, its cgroup and its log
	argv []string
}

// start starts d on the host, unless it is running.
func (h *Host) start(d daemon) error {
	if h.running(d.name) {
		return nil
	}
	if err := h.spawn(h.command(context.Background(), d.name, d.argv...), d.name); err != nil {
		return fmt.Errorf("start %s on %s: %w", d.name, h.Name, err)
	}
	return nil
}

// spawn starts cmd in the cgroup of that process name, with its output in the
// log of that name. It outlives the caller.
func (h *Host) spawn(cmd *exec.Cmd, process string) error {
	log, err := os.OpenFile(h.logFile(process), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	group, err := h.openCgroup(process)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(group.Fd())}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // reaps it if it ends before we do
	return nil
}

// shim is what containerd leaves behind in its cgroup when it ends.
const shim = "containerd-shim-runc-v2"

// running reports whether the daemon of that name runs, or is about to: for a
// moment it is nsenter, or nothing that can be read.
func (h *Host) running(daemon string) bool {
	return slices.ContainsFunc(h.cgroup().child(daemon).pids(), func(pid int) bool {
		p, ok := readProcess(pid)
		return !ok || p.Name != shim && !h.inPod(pid)
	})
}

// inPod reports whether the process is in a container. Of the unified hierarchy that is hidden from containerd (hideUnified), so a
// container is in containerd's own cgroup there, and in a pod's among those of version 1.
func (h *Host) inPod(pid int) bool {
	cgroups, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	return strings.Contains(string(cgroups), ":"+podCgroup(h.lab.opts.Name, h.Name)+"/")
}

func (h *Host) logFile(process string) string { return h.dir("log", process+".log") }

// Process is a process of a host, of the lab's own or inside a pod.
type Process struct {
	PID   int // in the machine's PID namespace
	Name  string
	Args  []string
	State byte // as in proc_pid_stat(5): R, S, D, T (stopped), Z …
}

// Processes returns the processes that run on the host, also those in pods, but
// not the one that holds its namespaces.
func (h *Host) Processes() []Process {
	var processes []Process
	holder := h.holder()
	for _, pid := range h.cgroup().pids() {
		if p, ok := readProcess(pid); ok && pid != holder {
			processes = append(processes, p)
		}
	}
	return processes
}

// memory returns what the host's processes have resident, in bytes, with pages
// that several processes share divided among them. The kernel walks all pages
// of a process for it.
func (h *Host) memory() (sum int64) {
	for _, pid := range h.cgroup().pids() {
		sum += readPSS(pid)
	}
	return sum
}

// Memory returns what all processes of the lab have resident, in bytes, with
// shared pages counted once.
func (l *Lab) Memory() (sum int64) {
	for _, h := range l.hosts {
		sum += h.memory()
	}
	return sum
}

// errNoProcess is returned where nothing of a name runs.
var errNoProcess = errors.New("no such process")

// find returns the host's processes of that name.
func (h *Host) find(name string) ([]Process, error) {
	var found []Process
	var names []string
	for _, p := range h.Processes() {
		if p.Name == name {
			found = append(found, p)
		}
		names = append(names, p.Name)
	}
	if len(found) == 0 {
		slices.Sort(names)
		return nil, fmt.Errorf("%w: %s on %s; there are: %s", errNoProcess, name, h.Name, strings.Join(slices.Compact(names), " "))
	}
	return found, nil
}

// readProcess reads a process from /proc; false if it has ended.
func readProcess(pid int) (Process, bool) {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	cmdline, err := os.ReadFile(filepath.Join(proc, "cmdline"))
	stat, statErr := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil || statErr != nil || len(cmdline) == 0 {
		return Process{}, false
	}
	p := Process{PID: pid, Args: strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")}
	p.Name = filepath.Base(p.Args[0])
	if i := strings.LastIndexByte(string(stat), ')'); i >= 0 && i+2 < len(stat) {
		p.State = stat[i+2]
	}
	return p, true
}

// readPSS returns a process's proportional set size in bytes, 0 if it has ended.
func readPSS(pid int) int64 {
	rollup, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	for line := range strings.Lines(string(rollup)) {
		if kb, ok := strings.CutPrefix(line, "Pss:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(kb), " kB"), 10, 64)
			return n << 10
		}
	}
	return 0
}

// signalEach sends sig to those of the processes that list still returns once
// they can be told from any that get their numbers later, and returns how many it
// was. A number alone may be of another process by the time of the signal.
func signalEach(list func() []int, sig unix.Signal) int {
	handles := make(map[int]int)
	for _, pid := range list() {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil { // else it has ended
			handles[pid] = fd
		}
	}
	now := list()
	for _, pid := range now {
		if fd, ok := handles[pid]; ok {
			_ = unix.PidfdSendSignal(fd, sig, nil, 0) // it may have ended since
		}
	}
	for _, fd := range handles {
		_ = unix.Close(fd)
	}
	return len(now)
}

// tail returns the last n lines of a file.
func tail(path string, n int) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const most = 64 << 10
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, end-most), io.SeekStart)
	}
	text, _ := io.ReadAll(f)
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// poll calls done until it reports true or an error, or ctx ends.
func poll(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
