package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"time"
)

const (
	etcdData = "/var/lib/etcd"
	// snapshots is the folder, on cp, of what [Lab.Snapshot] saves.
	snapshots = "/var/lib/etcd-snapshots"
	// These are far beyond what is needed.
	snapshotLimit = time.Minute
	restoreLimit  = 2 * time.Minute
)

// Snapshot saves what etcd holds, under a name.
func (l *Lab) Snapshot(ctx context.Context, name string) error {
	return l.progress.during(ctx, snapshotLimit, "saving etcd as "+name, func(ctx context.Context) error {
		cp := l.hosts["cp"]
		if _, err := cp.Exec(ctx, "mkdir", "-p", snapshots); err != nil {
			return err
		}
		_, err := cp.Exec(ctx, "etcdctl", "--endpoints="+etcdURL, "snapshot", "save", path.Join(snapshots, name))
		return err
	})
}

// Restore puts etcd back to a snapshot: the API server and etcd end, etcd begins anew with what was saved, and the API server
// is started. Nothing else is. If it fails half-way it can be called again.
//
// Revisions do not go back: they are brought beyond all that were given out before, and marked as compacted, so that whoever
// watches reads everything anew. That is what etcd recommends for Kubernetes, and what later versions of it do by
// `snapshot restore --bump-revision --mark-compacted`; otherwise a watch from a revision that is yet to come is silent until
// it has come.
func (l *Lab) Restore(ctx context.Context, name string) error {
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return l.progress.during(ctx, restoreLimit, "restoring etcd from "+name, func(ctx context.Context) error {
		return l.restore(ctx, name)
	})
}

func (l *Lab) restore(ctx context.Context, name string) error {
	cp := l.hosts["cp"]
	const data = etcdData + ".restored"
	if _, err := cp.Exec(ctx, "rm", "-rf", data); err != nil { // of an attempt that failed
		return err
	}
	if _, err := cp.Exec(ctx, "etcdctl", "snapshot", "restore", path.Join(snapshots, name), "--data-dir="+data); err != nil {
		return err
	}
	if err := l.Kill(ctx, cp.Name, "kube-apiserver"); err != nil && !errors.Is(err, errNoProcess) {
		return err
	}
	if err := cp.start(etcd()); err != nil { // if it was killed
		return err
	}
	last, err := l.lastRevision(ctx)
	if err != nil {
		return err
	}
	if err := l.Kill(ctx, cp.Name, "etcd"); err != nil {
		return err
	}
	if _, err := cp.Exec(ctx, "sh", "-c", "rm -rf "+etcdData+" && mv "+data+" "+etcdData); err != nil {
		return err
	}
	if err := cp.start(etcd()); err != nil {
		return err
	}
	if err := l.raiseRevision(ctx, last); err != nil {
		return fmt.Errorf("raise the revision of etcd above %d: %w", last, err)
	}
	if err := os.Remove(l.lastRevisionFile()); err != nil {
		return err
	}
	return l.startControlPlane(ctx)
}

// lastRevisionFile remembers, while etcd is being set back, the newest revision
// that was given out before.
func (l *Lab) lastRevisionFile() string { return l.hosts["cp"].dir("var/lib/etcd-last-revision") }

// lastRevision returns the newest revision that was ever given out, and writes it
// down: what etcd says itself is less once an attempt has failed half-way.
func (l *Lab) lastRevision(ctx context.Context) (int, error) {
	last, err := l.awaitRevision(ctx)
	if err != nil {
		return 0, err
	}
	if text, err := os.ReadFile(l.lastRevisionFile()); err == nil {
		before, err := strconv.Atoi(string(text))
		if err != nil {
			return 0, fmt.Errorf("%s: %w", l.lastRevisionFile(), err)
		}
		last = max(last, before)
	}
	unfinished := l.lastRevisionFile() + ".unfinished"
	if err := writeFile(unfinished, []byte(strconv.Itoa(last))); err != nil {
		return 0, err
	}
	return last, os.Rename(unfinished, l.lastRevisionFile())
}

// awaitRevision waits until etcd answers, and returns its newest revision.
func (l *Lab) awaitRevision(ctx context.Context) (revision int, err error) {
	err = poll(ctx, 100*time.Millisecond, func() (bool, error) {
		var err error
		revision, err = l.revision(ctx)
		return err == nil, nil // it may not answer yet
	})
	return revision, err
}

// revision returns etcd's newest revision.
func (l *Lab) revision(ctx context.Context) (int, error) {
	out, err := l.hosts["cp"].Exec(ctx, "etcdctl", "--endpoints="+etcdURL, "endpoint", "status", "--write-out=json")
	if err != nil {
		return 0, err
	}
	var endpoints []struct {
		Status struct{ Header struct{ Revision int } }
	}
	if err := json.Unmarshal([]byte(out.Stdout), &endpoints); err != nil || len(endpoints) != 1 {
		return 0, errors.Join(fmt.Errorf("etcd's status is %q", out.Stdout), err)
	}
	return endpoints[0].Status.Header.Revision, nil
}

// raiseRevision writes a key until etcd's revision is above one, and compacts what is older.
func (l *Lab) raiseRevision(ctx context.Context, above int) error {
	now, err := l.awaitRevision(ctx)
	if err != nil {
		return err
	}
	if now <= above {
		// One connection: curl asks for each URL of the range, and leaves the fragment out. Just after its
		// start etcd may leave a request without an answer; one that is made twice does no harm.
		url := fmt.Sprintf("%s/v3/kv/put#[1-%d]", etcdURL, above-now+1)
		if _, err := l.hosts["cp"].Exec(ctx, "curl", "--silent", "--show-error", "--fail", "--output", "/dev/null",
			"--max-time", "5", "--retry", "10", "--retry-delay", "1", "--retry-all-errors", "--data", `{"key": "bGFi"}`, url); err != nil {
			return err
		}
		if now, err = l.revision(ctx); err != nil {
			return err
		}
	}
	_, err = l.hosts["cp"].Exec(ctx, "etcdctl", "--endpoints="+etcdURL, "compaction", strconv.Itoa(now))
	return err
}
