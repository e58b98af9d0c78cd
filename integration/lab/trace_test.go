package lab

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// trace is what a lab has in the kernel. It is found by the lab's network
// namespaces and by who started whom, not by the cgroups that down goes by.
type trace struct {
	lab, dir  string
	processes map[int]string // number → when it was started, by which it is told from others
	// namespaces are the network namespaces, as /proc/PID/ns/net shows them. They
	// are held open, so that none of these names comes to another namespace.
	namespaces map[string]*os.File
}

// traceOf records a lab's processes, also those in pods, and the network
// namespaces that they are in.
func traceOf(t *testing.T, name string) trace {
	t.Helper()
	dir, err := labDir(name)
	if err != nil {
		t.Fatal(err)
	}
	found := trace{name, dir, map[int]string{}, map[string]*os.File{}}
	files, _ := filepath.Glob(filepath.Join(netnsDir, name+"-*"))
	for _, file := range files {
		found.hold(file)
	}
	hosts := maps.Clone(found.namespaces)
	all := kernelProcesses()
	for pid, p := range all {
		for ancestor, ok := p, true; ok; ancestor, ok = all[ancestor.parent] {
			if hosts[ancestor.netns] != nil {
				found.processes[pid] = p.started
				found.hold(fmt.Sprintf("/proc/%d/ns/net", pid))
				break
			}
		}
	}
	return found
}

// hold holds a network namespace, unless it is gone or held already.
func (tr trace) hold(file string) {
	f, err := os.Open(file)
	if err != nil {
		return
	}
	var stat unix.Stat_t
	var fs unix.Statfs_t
	if err := errors.Join(unix.Fstat(int(f.Fd()), &stat), unix.Fstatfs(int(f.Fd()), &fs)); err != nil || fs.Type != unix.NSFS_MAGIC {
		f.Close()
		return // or a file on which nothing is mounted yet, or any more
	}
	name := fmt.Sprintf("net:[%d]", stat.Ino) // namespaces(7)
	if tr.namespaces[name] != nil {
		f.Close()
		return
	}
	tr.namespaces[name] = f
}

// kernelProcess is what the kernel tells of any process.
type kernelProcess struct {
	parent         int
	started, netns string
}

// kernelProcesses returns the processes of the machine that have not ended.
func kernelProcesses() map[int]kernelProcess {
	all := make(map[int]kernelProcess)
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), ") ") // proc_pid_stat(5): state, parent, …
		fields := strings.Fields(rest)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if len(fields) < 20 || fields[0] == "Z" {
			continue
		}
		parent, _ := strconv.Atoi(fields[1])
		netns, _ := os.Readlink(filepath.Join(filepath.Dir(file), "ns/net"))
		all[pid] = kernelProcess{parent, fields[19], netns}
	}
	return all
}

// mustBeGone checks that nothing of the lab is left.
func (tr trace) mustBeGone(t *testing.T) {
	t.Helper()
	for pid, p := range kernelProcesses() {
		if tr.processes[pid] == p.started || tr.namespaces[p.netns] != nil {
			cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			t.Errorf("process %d of %s is still there: %q", pid, tr.lab, cmdline)
		}
	}
	for _, f := range tr.namespaces {
		f.Close()
	}
	for _, pattern := range []string{
		filepath.Join(netnsDir, tr.lab+"-*"),
		filepath.Join("/sys/fs/cgroup", cgroupParent, tr.lab), filepath.Join("/sys/fs/cgroup/*", cgroupParent, tr.lab),
		tr.dir, tr.dir + ".lock",
	} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "/netns/"+tr.lab+"-") || strings.Contains(line, tr.dir+"/") {
			t.Errorf("still mounted: %s", line)
		}
	}
}
