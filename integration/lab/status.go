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
	"strings"
	"text/tabwriter"
)

// Status prints the hosts of the lab, what runs on them and what they use, and
// the nodes as the cluster sees them.
func (l *Lab) Status(ctx context.Context, w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "HOST\tADDRESSES\tLINK\tMEMORY\tPROCESSES")
	var total int64
	for _, plan := range l.plan.Hosts {
		h := l.hosts[plan.Name]
		memory := h.memory()
		total += memory
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", h.Name, dash(join(plan.Addrs())), h.linkState(), mebibytes(memory), dash(summary(h.Processes())))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nMemory in all: %s (shared pages counted once)\nKubeconfig: %s\n\n", mebibytes(total), l.Kubeconfig())
	kubectl := l.KubectlCommand(ctx, "get", "nodes", "--output=wide", "--request-timeout=5s")
	kubectl.Stdout, kubectl.Stderr = w, w
	if err := kubectl.Run(); err != nil {
		return fmt.Errorf("the cluster does not answer: %w", err)
	}
	return nil
}

// linkState reports what the switch knows of the host's cables.
func (h *Host) linkState() string {
	if h.Role == RoleSwitch {
		return "-"
	}
	lan, ns, err := netlinkIn(h.lab.hosts["lan"].NetNS())
	if err != nil {
		return "none"
	}
	defer ns.Close()
	defer lan.Close()
	for _, link := range h.Links {
		port, err := lan.LinkByName(link.Port)
		if err != nil {
			return "off"
		}
		if port.Attrs().Flags&1 == 0 { // net.FlagUp
			return "cut"
		}
	}
	return "up"
}

// summary names the processes, with how many there are of each and which are
// stopped; what only holds a pod is left out.
func summary(processes []Process) string {
	count := make(map[string]int)
	var names []string
	for _, p := range processes {
		name := p.Name
		if slices.Contains([]string{"pause", shim}, name) {
			continue
		}
		if p.State == 'T' {
			name += " (frozen)"
		}
		if count[name]++; count[name] == 1 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for i, name := range names {
		if n := count[name]; n > 1 {
			names[i] = fmt.Sprintf("%s×%d", name, n)
		}
	}
	return strings.Join(names, " ")
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

// LogTails prints the last lines of each log of the host.
func (h *Host) LogTails(w io.Writer) error {
	files, err := filepath.Glob(h.dir("log", "*.log"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && info.Size() > 0 {
			fmt.Fprintf(w, "=== %s\n%s\n", strings.TrimSuffix(filepath.Base(file), ".log"), tail(file, logLines))
		}
	}
	return nil
}

// Logs prints the log of a process of the host that the lab started, or of the
// containers of that name in its pods. With follow it goes on until ctx ends.
func (h *Host) Logs(ctx context.Context, w io.Writer, process string, follow bool) error {
	files := []string{h.logFile(process)}
	if _, err := os.Stat(files[0]); err != nil {
		files, _ = filepath.Glob(h.dir("var/log/pods/*", process, "*.log")) // the pattern is well-formed
	}
	if len(files) == 0 {
		return fmt.Errorf("no log of %s on %s", process, h.Name)
	}
	args := []string{"--lines=+1"}
	if follow {
		args = append(args, "--follow=name", "--retry")
	}
	if len(files) > 1 {
		args = append(args, "--verbose")
	}
	tail := exec.CommandContext(ctx, "tail", append(args, files...)...)
	tail.Stdout, tail.Stderr = w, os.Stderr
	err := tail.Run()
	if follow && ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil // as asked
	}
	return err
}
