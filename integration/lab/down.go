package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// hostNames matches the names of hosts, whatever options a lab was made with.
var hostNames = regexp.MustCompile(`^(lan|cp|node[0-9]+|client|router|router2|remote)$`)

// downLimit is far beyond what a lab needs to end.
const downLimit = time.Minute

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
	ctx, cancel := context.WithTimeoutCause(ctx, downLimit, fmt.Errorf("gave up after %s", downLimit))
	defer cancel()

	group, err := labCgroup(name)
	if err != nil {
		return err
	}
	processes := len(group.pids())
	if err := group.kill(ctx); err != nil {
		return err
	}
	progress.printf("%d processes ended", processes)
	namespaces, err := labNetNS(name)
	if err != nil {
		return err
	}
	var deletions errgroup.Group
	for _, ns := range namespaces {
		deletions.Go(func() error { return deleteNetNS(ns) })
	}
	if err := deletions.Wait(); err != nil {
		return err
	}
	_ = os.Remove(netnsDir) // fails, rightly, while it holds others
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
