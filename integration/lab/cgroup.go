package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupParent holds the cgroups of all labs of this machine.
const cgroupParent = "seamark-lab"

// cgroupMounts returns where the unified hierarchy is mounted (cgroups(7):
// itself /sys/fs/cgroup, or beside the version 1 controllers) and where those
// controllers are, if they are.
func cgroupMounts() (unified string, v1 []string, err error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", nil, err
	}
	unified, v1 = parseCgroupMounts(string(mounts))
	if unified == "" {
		return "", nil, errors.New("no cgroup2 hierarchy is mounted: mount one, e.g. mount -t cgroup2 none /sys/fs/cgroup/unified")
	}
	return unified, v1, nil
}

// parseCgroupMounts reads the text of /proc/PID/mountinfo (proc(5)).
func parseCgroupMounts(mountinfo string) (unified string, v1 []string) {
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		fields, fsFields := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(fsFields) < 1 {
			continue
		}
		switch mountpoint := fields[4]; fsFields[0] {
		case "cgroup":
			v1 = append(v1, mountpoint)
		case "cgroup2":
			if unified == "" {
				unified = mountpoint
			}
		}
	}
	return unified, v1
}

// cgroup is a directory in the unified hierarchy.
type cgroup string

// labCgroup returns the cgroup of the named lab, which may not exist.
func labCgroup(name string) (cgroup, error) {
	unified, _, err := cgroupMounts()
	if err != nil {
		return "", err
	}
	return cgroup(filepath.Join(unified, cgroupParent, name)), nil
}

func (c cgroup) child(name string) cgroup { return cgroup(filepath.Join(string(c), name)) }

// create makes the cgroup and returns it opened for [syscall.SysProcAttr].
func (c cgroup) create() (*os.File, error) {
	if err := os.MkdirAll(string(c), 0o755); err != nil {
		return nil, fmt.Errorf("create cgroup: %w", err)
	}
	return os.Open(string(c))
}

// pids returns the processes in the cgroup and below.
func (c cgroup) pids() []int {
	var pids []int
	_ = filepath.WalkDir(string(c), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // a cgroup that went away while we walked
		}
		procs, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for _, field := range strings.Fields(string(procs)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

// end kills every process in the cgroup and below, and outside of it those that
// strays returns, and waits for their end. It returns how many there were. It does
// not use cgroup.kill: a kernel (6.18) was seen to kill from then on every process
// that was created in the cgroup by clone3(2).
func (c cgroup) end(ctx context.Context, strays func() []int) (n int, err error) {
	list := func() []int {
		pids := append(c.pids(), strays()...)
		slices.Sort(pids)
		return slices.Compact(pids)
	}
	n = len(list())
	err = poll(ctx, 20*time.Millisecond, func() (bool, error) {
		// A process that a version 1 freezer holds does not even notice SIGKILL,
		// and a container runtime may be about to pause one.
		if err := c.thaw(); err != nil {
			return false, err
		}
		return signalEach(list, unix.SIGKILL) == 0, nil
	})
	if err != nil {
		var left []string
		for _, pid := range list() {
			p, _ := readProcess(pid)
			left = append(left, fmt.Sprintf("%d (%s, %c)", pid, p.Name, p.State))
		}
		return n, fmt.Errorf("%w: still there: %s", err, strings.Join(left, " "))
	}
	return n, nil
}

// thaw thaws the cgroups of that path in the hierarchy of version 1's freezer, if
// there is one (freezer-subsystem.rst of the kernel).
func (c cgroup) thaw() error {
	unified, v1, err := cgroupMounts()
	if err != nil {
		return err
	}
	path, err := filepath.Rel(unified, string(c))
	if err != nil {
		return err
	}
	for _, hierarchy := range v1 {
		const state = "freezer.state" // in each but the root of that hierarchy
		if _, err := os.Stat(filepath.Join(hierarchy, path, state)); err != nil {
			continue
		}
		_ = filepath.WalkDir(filepath.Join(hierarchy, path), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() { // else it went away while we walked
				_ = os.WriteFile(filepath.Join(path, state), []byte("THAWED"), 0)
			}
			return nil
		})
	}
	return nil
}

// createCgroups makes a cgroup of that path in every hierarchy, as the kubelet
// wants to find its root.
func createCgroups(path string) error {
	unified, v1, err := cgroupMounts()
	if err != nil {
		return err
	}
	for _, hierarchy := range append(v1, unified) {
		if err := os.MkdirAll(filepath.Join(hierarchy, path), 0o755); err != nil {
			return fmt.Errorf("create cgroup: %w", err)
		}
	}
	if len(v1) > 0 {
		return nil // the controllers are in those
	}
	return enableControllers(unified, path)
}

// enableControllers makes the controllers that the unified hierarchy has
// available in the cgroup of that path: each of those above must pass them on.
func enableControllers(unified, path string) error {
	controllers, err := os.ReadFile(filepath.Join(unified, "cgroup.controllers"))
	if err != nil {
		return err
	}
	var enable []string
	for _, c := range strings.Fields(string(controllers)) {
		enable = append(enable, "+"+c)
	}
	dir := unified
	for _, elem := range strings.Split(strings.Trim(path, "/"), "/") {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(strings.Join(enable, " ")), 0); err != nil {
			return fmt.Errorf("enable cgroup controllers: %w", err)
		}
		dir = filepath.Join(dir, elem)
	}
	return nil
}

// removeCgroups removes the lab's directories from all hierarchies (the
// container runtime makes them in each one) and then the parent of all labs,
// if this was the last.
func removeCgroups(ctx context.Context, lab string) error {
	unified, v1, err := cgroupMounts()
	if err != nil {
		return err
	}
	for _, hierarchy := range append(v1, unified) {
		parent := filepath.Join(hierarchy, cgroupParent)
		err := poll(ctx, 20*time.Millisecond, func() (bool, error) {
			err := removeTree(filepath.Join(parent, lab))
			if errors.Is(err, unix.EBUSY) { // while processes are being reaped
				return false, nil
			}
			return true, err
		})
		if err != nil {
			return fmt.Errorf("remove cgroup: %w", err)
		}
		_ = os.Remove(parent) // fails while it holds another lab
	}
	return nil
}

// removeTree removes a cgroup and those below it. Unlike [os.RemoveAll] it
// leaves the control files alone, which cannot be unlinked.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
