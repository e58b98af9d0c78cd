package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockLimit is how long a process waits for another one that is at work on the
// same lab.
const lockLimit = time.Minute

// lockLab takes the lock of the lab whose folder is dir, waiting if another
// process or goroutine has it. Whoever makes, starts, stops or removes anything
// of a lab has the lock, so that what one makes another does not remove half-way.
// The kernel drops the lock when its holder dies.
func lockLab(ctx context.Context, dir string, progress *progress) (unlock func(), err error) {
	name := filepath.Base(dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, lockLimit, fmt.Errorf("gave up after %s: another process is making or removing lab %s", lockLimit, name))
	defer cancel()
	told := false
	err = poll(ctx, 100*time.Millisecond, func() (bool, error) {
		var err error
		unlock, err = tryLock(dir + ".lock")
		if err == nil && unlock == nil && !told {
			told = true
			progress.printf("another process is making or removing lab %s: waiting for it", name)
		}
		return unlock != nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("lock lab %s: %w", name, err)
	}
	return unlock, nil
}

// tryLock takes the lock that a file stands for, which it makes, and which unlock
// removes. Unlock is nil if somebody else has the lock.
func tryLock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && isFile(f, path) {
		return func() {
			_ = os.Remove(path) // while it is locked: nobody else has it
			_ = f.Close()
		}, nil
	}
	_ = f.Close()
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
		return nil, err
	}
	return nil, nil
}

// isFile reports whether path still names the file that was opened: a holder
// before us may have removed it meanwhile.
func isFile(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(path)
	return err == nil && os.SameFile(opened, now)
}
