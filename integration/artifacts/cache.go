package artifacts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// unusedFor is how long a result stays in the cache that nobody asks for.
const unusedFor = 7 * 24 * time.Hour

// Cache is where the artifacts are. The zero value works. Its methods may be called at the same time, also by several
// processes with one folder.
type Cache struct {
	Dir    string    // "": $SEAMARK_LAB_CACHE or, without that, seamark-lab in os.UserCacheDir
	Source string    // a checkout of Seamark, or a folder in one, with the recipes; "": the one around the working directory
	Log    io.Writer // gets a line when something is built, and how far it is; nil: nobody
}

// Binary returns the path of a program, building it if absent: kube-apiserver, kube-controller-manager, kube-scheduler,
// kube-proxy, kubelet, kubectl, agnhost, coredns, e2e.test, ginkgo or lab-relay.
func (c *Cache) Binary(ctx context.Context, name string) (string, error) {
	step, ok := programStep(name)
	if !ok {
		return "", fmt.Errorf("no recipe for a program %q", name)
	}
	return c.file(ctx, step, name)
}

// Image returns the path of an image archive for `ctr -n k8s.io images import`, building it if absent: pause, agnhost,
// coredns, or e2e, which holds all that the upstream tests start (agnhost among them, with the additions that only those
// tests need).
func (c *Cache) Image(ctx context.Context, name string) (string, error) {
	if _, ok := images()[name]; !ok {
		return "", fmt.Errorf("no recipe for an image %q", name)
	}
	return c.file(ctx, imagePrefix+name, name+".tar")
}

// Prepare builds what is absent of several programs and images in one go, so that what does not depend on each other
// runs side by side and the log can say how much is left.
func (c *Cache) Prepare(ctx context.Context, programs, imageNames []string) error {
	var want []string
	for _, name := range programs {
		step, ok := programStep(name)
		if !ok {
			return fmt.Errorf("no recipe for a program %q", name)
		}
		want = append(want, step)
	}
	for _, name := range imageNames {
		if _, ok := images()[name]; !ok {
			return fmt.Errorf("no recipe for an image %q", name)
		}
		want = append(want, imagePrefix+name)
	}
	_, err := c.ensure(ctx, want...)
	return err
}

func (c *Cache) file(ctx context.Context, step, file string) (string, error) {
	dirs, err := c.ensure(ctx, step)
	if err != nil {
		return "", err
	}
	return filepath.Join(dirs[step], file), nil
}

// ensure builds the wanted steps, and what they need, where they are absent. It returns the folders of the results.
func (c *Cache) ensure(ctx context.Context, want ...string) (map[string]string, error) {
	dir, err := c.dir()
	if err != nil {
		return nil, err
	}
	checkout, err := FindCheckout(c.Source)
	if err != nil {
		return nil, err
	}
	src := module(checkout)
	recipes, err := steps(src)
	if err != nil {
		return nil, err
	}
	p := &plan{dir: dir, src: src, steps: recipes, keys: map[string]string{}, log: &lineWriter{w: c.Log}}
	for _, name := range want {
		if err := p.add(name); err != nil {
			return nil, err
		}
	}
	if err := p.run(ctx); err != nil {
		return nil, err
	}
	dirs := make(map[string]string, len(want))
	now := time.Now()
	for _, name := range want {
		dirs[name] = p.result(name)
		// The time of last use, for prune. A cache that we may only read is as good.
		_ = os.Chtimes(dirs[name], now, now)
	}
	return dirs, nil
}

func (c *Cache) dir() (string, error) {
	dir := c.Dir
	if dir == "" {
		dir = os.Getenv("SEAMARK_LAB_CACHE")
	}
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no folder for built programs: %w; set SEAMARK_LAB_CACHE", err)
		}
		dir = filepath.Join(user, "seamark-lab")
	}
	return filepath.Abs(dir)
}

// plan is the work of one call: the steps whose results are absent, each after those it needs.
type plan struct {
	dir   string
	src   *source
	steps map[string]step
	keys  map[string]string
	todo  []string
	log   *lineWriter
}

// add appends the step to the plan if it is absent, after what it needs.
func (p *plan) add(name string) error {
	if slices.Contains(p.todo, name) {
		return nil
	}
	if _, err := p.key(name); err != nil {
		return err
	}
	if _, err := os.Stat(p.result(name)); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, need := range p.steps[name].needs {
		if err := p.add(need); err != nil {
			return err
		}
	}
	p.todo = append(p.todo, name)
	return nil
}

// key returns the hash of all that the step's result depends on.
func (p *plan) key(name string) (string, error) {
	if key, ok := p.keys[name]; ok {
		return key, nil
	}
	s, ok := p.steps[name]
	if !ok {
		return "", fmt.Errorf("no step %q", name)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%q\n", name, s.inputs)
	for _, file := range s.sources {
		if err := p.src.hash(h, file); err != nil {
			return "", fmt.Errorf("inputs of %s: %w", name, err)
		}
	}
	for _, need := range s.needs {
		key, err := p.key(need)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %s\n", need, key)
	}
	p.keys[name] = hex.EncodeToString(h.Sum(nil))[:16]
	return p.keys[name], nil
}

// result is the folder of a step's result; its key must be known.
func (p *plan) result(name string) string { return filepath.Join(p.dir, name, p.keys[name]) }

// run builds the plan's steps, each as soon as what it needs is there. Compilers run one after the other, because each
// takes all processors; everything else runs beside them.
func (p *plan) run(ctx context.Context) error {
	done := map[string]chan struct{}{}
	for _, name := range p.todo {
		done[name] = make(chan struct{})
	}
	group, ctx := errgroup.WithContext(ctx)
	var compiled []chan struct{} // done, of the last compile step so far
	for i, name := range p.todo {
		var waitFor []chan struct{}
		for _, need := range p.steps[name].needs {
			if ch, ok := done[need]; ok {
				waitFor = append(waitFor, ch)
			}
		}
		if p.steps[name].compiles {
			waitFor = append(waitFor, compiled...)
			compiled = []chan struct{}{done[name]}
		}
		group.Go(func() error {
			for _, ch := range waitFor {
				select {
				case <-ch:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if err := p.build(ctx, name, fmt.Sprintf("[%d/%d] %s", i+1, len(p.todo), name)); err != nil {
				return fmt.Errorf("building %s: %w", name, err)
			}
			close(done[name])
			return nil
		})
	}
	return group.Wait()
}

// build makes one result under the step's lock, in a folder that takes its final name when all is there.
func (p *plan) build(ctx context.Context, name, label string) error {
	result := p.result(name)
	parent := filepath.Dir(result)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	unlock, err := lock(ctx, filepath.Join(parent, "lock"), func() {
		p.log.printf("%s: another process is building it, waiting", label)
	})
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(result); err == nil {
		return nil // built while we waited
	}
	if err := prune(parent, time.Now().Add(-unusedFor)); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, tmpPrefix)
	if err != nil {
		return err
	}
	s := p.steps[name]
	b := &builder{out: tmp, src: p.src, label: label, log: p.log, need: p.result}
	p.log.printf("%s: %s", label, s.about)
	start := time.Now()
	if err := s.build(ctx, b); err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	if err := errors.Join(os.Chmod(tmp, 0o755), os.Rename(tmp, result)); err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	p.log.printf("%s: done in %s, %d MB", label, time.Since(start).Round(100*time.Millisecond), size(result)>>20)
	return nil
}

const tmpPrefix = "unfinished-"

// prune removes from a step's folder what a killed process left unfinished, and results not used since the given time.
// The caller has the step's lock.
func prune(parent string, since time.Time) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() {
			continue
		}
		if strings.HasPrefix(e.Name(), tmpPrefix) || info.ModTime().Before(since) {
			if err := os.RemoveAll(filepath.Join(parent, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// lock takes the lock that the file stands for. It calls waiting if another process or goroutine has it. The kernel drops
// the lock when its holder dies.
func lock(ctx context.Context, file string, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", file, err), f.Close())
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func size(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // a size for people to read; what cannot be read has none
		}
		if info, err := d.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}

// lineWriter writes whole lines of several goroutines to one writer.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineWriter) printf(format string, args ...any) {
	if l.w == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, format+"\n", args...)
}
