package lab

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// hostNames matches the names of hosts, whatever options a lab was made with.
var hostNames = regexp.MustCompile(`^(lan|cp|node[0-9]+|client|router|router2|remote)$`)

const (
	// downLimit is far beyond what a lab needs to end, and offLimit what a host
	// does.
	downLimit = time.Minute
	offLimit  = 30 * time.Second
)

// Down removes the lab of that name and everything of it: processes, network
// namespaces, cgroups and files. It needs nothing to be complete, and is no
// error if there is nothing.
func Down(ctx context.Context, name string, progressTo io.Writer) error {
	progress := newProgress(progressTo)
	dir, err := labDir(name)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("a lab is made of namespaces: run this as root")
	}
	unlock, err := lockLab(ctx, dir, progress)
	if err != nil {
		return err
	}
	defer unlock()
	return progress.during(ctx, downLimit, "taking down lab "+name, func(ctx context.Context) error {
		return down(ctx, name, dir, progress)
	})
}

func down(ctx context.Context, name, dir string, progress *progress) error {
	group, err := labCgroup(name)
	if err != nil {
		return err
	}
	namespaces, err := labNetNS(name)
	if err != nil {
		return err
	}
	processes, err := group.end(ctx, func() []int { return inNetNS(namespaces) })
	if err != nil {
		return err
	}
	progress.printf("%d processes ended", processes)
	var deletions errgroup.Group
	for _, ns := range namespaces {
		deletions.Go(func() error { return deleteNetNS(ns) })
	}
	if err := deletions.Wait(); err != nil {
		return err
	}
	progress.printf("%d network namespaces removed", len(namespaces))
	if err := removeCgroups(ctx, name); err != nil {
		return err
	}
	// Nothing is mounted in there: what was, was so in the hosts' own mount
	// namespaces only.
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	progress.printf("lab %s is down", name)
	return nil
}

// Down is [Down] for l, which cannot be used any more.
func (l *Lab) Down(ctx context.Context) error {
	_ = l.Close()
	return Down(ctx, l.opts.Name, l.progress.w)
}

// labNetNS returns the named network namespaces of a lab.
func labNetNS(lab string) ([]string, error) {
	entries, err := os.ReadDir(netnsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if host, ok := strings.CutPrefix(e.Name(), lab+"-"); ok && hostNames.MatchString(host) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// inNetNS returns the processes of the machine, but this one, that are in one of
// the named network namespaces: also those that no lab has started, as
// `ip netns exec` does.
func inNetNS(names []string) []int {
	var wanted []os.FileInfo
	for _, name := range names {
		if info, err := os.Stat(filepath.Join(netnsDir, name)); err == nil {
			wanted = append(wanted, info)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net") // the pattern is well-formed
	var pids []int
	for _, link := range links {
		info, err := os.Stat(link)
		if err != nil || !slices.ContainsFunc(wanted, func(w os.FileInfo) bool { return os.SameFile(w, info) }) {
			continue // or it has ended
		}
		if pid, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}
