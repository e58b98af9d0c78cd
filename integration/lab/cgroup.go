package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

// kill kills every process in the cgroup and below and waits for their end. It
// does not use cgroup.kill: a kernel (6.18) was seen to kill from then on every
// process that was created in the cgroup by clone3(2).
func (c cgroup) kill(ctx context.Context) error {
	return poll(ctx, 20*time.Millisecond, func() (bool, error) {
		pids := c.pids()
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // may have ended by itself
		}
		return len(pids) == 0, nil
	})
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
