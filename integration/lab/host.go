package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Host is one machine of the lab. Its methods may be called concurrently.
type Host struct {
	HostPlan
	lab *Lab

	mu      sync.Mutex
	cgroups map[string]*os.File // opened for starting processes in them
}

// holdProcess is the process that holds a host's namespaces.
const holdProcess = "hold"

// NetNS returns the name of the host's network namespace, as known to ip(8).
func (h *Host) NetNS() string { return h.lab.opts.Name + "-" + h.Name }

func (h *Host) cgroup() cgroup { return h.lab.cgroup.child(h.Name) }

// dir returns the host's folder in the lab's state, or a path below it.
func (h *Host) dir(elem ...string) string {
	return filepath.Join(append([]string{h.lab.dir, "hosts", h.Name}, elem...)...)
}

// holder returns the process that holds the host's namespaces, 0 if the host
// is not running.
func (h *Host) holder() int {
	if pids := h.cgroup().child(holdProcess).pids(); len(pids) > 0 {
		return pids[0]
	}
	return 0
}

// boot makes the host's namespaces and links. It is an error if they exist; see
// [Host.halt].
func (h *Host) boot() error {
	for _, dir := range []string{"etc", ".etc-work", "log", "var/cache", "var/lib", "var/log", "var/tmp"} {
		if err := os.MkdirAll(h.dir(dir), 0o755); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{"var/run": "/run", "var/lock": "/run/lock"} {
		if err := os.Symlink(target, h.dir(name)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	files, err := configFiles(h.lab.opts, h.lab.plan, h.HostPlan)
	if err != nil {
		return err
	}
	for path, content := range files {
		if err := writeFile(h.dir(path), content); err != nil {
			return err
		}
	}
	if err := onNewThread(h.enterNewNamespaces); err != nil {
		return fmt.Errorf("host %s: %w", h.Name, err)
	}
	if err := h.connect(); err != nil {
		return fmt.Errorf("host %s: %w", h.Name, err)
	}
	return nil
}

// onNewThread calls f on a thread that ends with it, so that nothing else can
// run in the namespaces to which f moves it.
func onNewThread(f func() error) error {
	errc := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: then the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			// The first thread of a process would stay. Keep it occupied, so
			// that another goroutine gets another one.
			defer runtime.UnlockOSThread()
			errc <- onNewThread(f)
			return
		}
		errc <- f()
	}()
	return <-errc
}

// enterNewNamespaces moves the calling thread into new namespaces, furnishes
// them and starts the process that holds them.
func (h *Host) enterNewNamespaces() error {
	ns, err := netns.NewNamed(h.NetNS())
	if err != nil {
		return fmt.Errorf("create network namespace %s: %w", h.NetNS(), err)
	}
	defer ns.Close()
	if err := writeSysctls(h.lab.sysctls(h.HostPlan)); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWUTS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Sethostname([]byte(h.Name)); err != nil {
		return fmt.Errorf("set hostname: %w", err)
	}
	if err := h.mount(); err != nil {
		return err
	}
	hold := exec.Command("sleep", "infinity")
	hold.Dir = "/"
	if err := h.spawn(hold, holdProcess); err != nil { // into its cgroup, which is in what is hidden then
		return err
	}
	return hideUnified()
}

// mount gives the calling thread's mount namespace the host's own /etc, /run
// and /var. What is mounted on the machine later shows up here, but not the
// other way round, and the namespace is shared among its own copies, which
// mount propagation into containers needs.
func (h *Host) mount() error {
	overlay := fmt.Sprintf("lowerdir=/etc,upperdir=%s,workdir=%s", h.dir("etc"), h.dir(".etc-work"))
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
		data                   string
	}{
		{"none", "/", "", unix.MS_REC | unix.MS_SLAVE, ""},
		{"none", "/", "", unix.MS_REC | unix.MS_SHARED, ""},
		{"overlay", "/etc", "overlay", 0, overlay},
		{h.dir("var"), "/var", "", unix.MS_BIND, ""},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
	} {
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s (%s): %w", m.source, m.target, m.data, err)
		}
	}
	return os.Mkdir("/run/lock", 0o777|os.ModeSticky)
}

// hideUnified leaves only the controllers of version 1 in the calling thread's mount namespace, where the machine has them beside the
// unified hierarchy: crun runs nothing where a controller is in the latter.
func hideUnified() error {
	unified, v1, err := cgroupMounts()
	if err != nil || len(v1) == 0 {
		return err
	}
	if err := unix.Unmount(unified, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", unified, err)
	}
	return nil
}

// halt kills everything that runs on the host and removes its network
// namespace, and with it its links. Its files stay. It does nothing to a host
// that is off, and makes one with leftovers ready for boot.
func (h *Host) halt(ctx context.Context) error {
	if _, err := h.cgroup().end(ctx, func() []int { return inNetNS([]string{h.NetNS()}) }); err != nil {
		return err
	}
	// The kernel removes a network namespace when it finds the time, but the
	// ports shall be free for the next boot.
	if err := h.unplug(); err != nil {
		return err
	}
	return deleteNetNS(h.NetNS())
}

func deleteNetNS(name string) error {
	err := netns.DeleteNamed(name)
	if errors.Is(err, unix.EINVAL) { // the file is there, but nothing is mounted on it
		err = os.Remove(filepath.Join(netnsDir, name))
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete network namespace %s: %w", name, err)
	}
	return nil
}

// waitDelay is how long a command whose context has ended is waited for, when
// what it started goes on writing.
const waitDelay = 2 * time.Second

// Output is what a command wrote.
type Output struct {
	Stdout, Stderr string
}

// Command returns a command that will run on the host: in its namespaces and
// in its cgroup, so that it cannot outlive the lab. kubectl works in it.
func (h *Host) Command(ctx context.Context, args ...string) *exec.Cmd {
	return h.command(ctx, "exec", args...)
}

func (h *Host) command(ctx context.Context, process string, args ...string) *exec.Cmd {
	holder := h.holder()
	enter := append([]string{"--target", strconv.Itoa(holder), "--net", "--uts", "--mount", "--"}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", enter...)
	cmd.Env = h.env()
	cmd.Dir = "/"
	cmd.WaitDelay = waitDelay
	if holder == 0 {
		cmd.Err = fmt.Errorf("host %s is not running", h.Name)
		return cmd
	}
	group, err := h.openCgroup(process)
	if err != nil {
		cmd.Err = err
		return cmd
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	return cmd
}

func (h *Host) env() []string {
	return []string{
		"PATH=" + h.lab.bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root",
		"LANG=C.UTF-8",
		"TERM=" + os.Getenv("TERM"),
		"KUBECONFIG=" + adminConf,
	}
}

// Exec runs a command on the host to its end. If it fails the error carries
// what it wrote to standard error.
func (h *Host) Exec(ctx context.Context, args ...string) (Output, error) {
	return h.run(ctx, h.Command(ctx, args...))
}

func (h *Host) run(ctx context.Context, cmd *exec.Cmd) (Output, error) {
	out, err := output(ctx, cmd)
	if err != nil {
		return out, fmt.Errorf("on %s: %w", h.Name, err)
	}
	return out, nil
}

// output runs cmd, whose context is ctx, and returns what it wrote; the error
// names the command without what wraps it.
func output(ctx context.Context, cmd *exec.Cmd) (Output, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	out := Output{stdout.String(), stderr.String()}
	if err != nil {
		args := cmd.Args
		for i, arg := range args {
			if arg == "--" && i+1 < len(args) {
				args = args[i+1:]
				break
			}
		}
		if cause := context.Cause(ctx); cause != nil { // which says more than "signal: killed"
			err = fmt.Errorf("%w: %w", cause, err)
		}
		err = fmt.Errorf("%s: %w", strings.Join(args, " "), err)
		if msg := strings.TrimSpace(out.Stderr); msg != "" {
			err = fmt.Errorf("%w: %s", err, msg)
		}
	}
	return out, err
}

// openCgroup returns the cgroup of one of the host's processes, opened.
func (h *Host) openCgroup(process string) (*os.File, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.cgroups[process]; f != nil {
		return f, nil
	}
	f, err := h.cgroup().child(process).create()
	if err != nil {
		return nil, err
	}
	if h.cgroups == nil {
		h.cgroups = make(map[string]*os.File)
	}
	h.cgroups[process] = f
	return f, nil
}

func (h *Host) closeCgroups() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.cgroups {
		_ = f.Close()
	}
	h.cgroups = nil
}

func writeFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644) // the lab's folder keeps others out
}
