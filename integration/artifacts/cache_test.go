package artifacts

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// newPlan returns a plan over a source of the given files.
func newPlan(t *testing.T, dir string, files map[string]string, steps map[string]step) *plan {
	t.Helper()
	src := t.TempDir()
	for name, content := range files {
		file := filepath.Join(src, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &plan{dir: dir, src: &source{dir: src}, steps: steps, keys: map[string]string{}, log: &lineWriter{}}
}

func TestKey(t *testing.T) {
	key := func(files map[string]string, steps map[string]step) string {
		t.Helper()
		k, err := newPlan(t, t.TempDir(), files, steps).key("top")
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	files := map[string]string{"src/main.go": "1", "src/deep/x.go": "2", "base.go": "3", "other.go": "4", "src/main_test.go": "5"}
	steps := func(change func(top, base *step)) map[string]step {
		top := step{inputs: []string{"flag"}, sources: []string{"src"}, needs: []string{"base"}}
		base := step{sources: []string{"base.go"}}
		change(&top, &base)
		return map[string]step{"top": top, "base": base}
	}
	same := func(*step, *step) {}
	edited := func(name, content string) map[string]string {
		changed := map[string]string{}
		for k, v := range files {
			changed[k] = v
		}
		changed[name] = content
		return changed
	}
	base := key(files, steps(same))
	for name, got := range map[string]string{
		"nothing changed":       key(files, steps(same)),
		"a test changed":        key(edited("src/main_test.go", "x"), steps(same)),
		"another file changed":  key(edited("other.go", "x"), steps(same)),
		"the message changed":   key(files, steps(func(top, _ *step) { top.about = "x" })),
		"an unused step is new": key(files, func() map[string]step { s := steps(same); s["new"] = step{}; return s }()),
	} {
		if got != base {
			t.Errorf("%s: another key", name)
		}
	}
	for name, got := range map[string]string{
		"a flag":             key(files, steps(func(top, _ *step) { top.inputs = []string{"other flag"} })),
		"flags split":        key(files, steps(func(top, _ *step) { top.inputs = []string{"fl", "ag"} })),
		"a source":           key(edited("src/main.go", "x"), steps(same)),
		"a source below":     key(edited("src/deep/x.go", "x"), steps(same)),
		"a new source":       key(edited("src/new.go", "x"), steps(same)),
		"a source of a need": key(edited("base.go", "x"), steps(same)),
		"an input of a need": key(files, steps(func(_, base *step) { base.inputs = []string{"x"} })),
	} {
		if got == base {
			t.Errorf("%s changed: the same key", name)
		}
	}
	if _, err := newPlan(t, t.TempDir(), nil, steps(same)).key("top"); err == nil {
		t.Error("no error for a source that is absent")
	}
}

// Two processes that want the same things build each once, and both get them.
func TestBuildOnce(t *testing.T) {
	var built sync.Map
	var compiling atomic.Int32
	build := func(_ context.Context, b *builder) error {
		if n := compiling.Add(1); n > 2 { // one for each of the two plans
			t.Errorf("%d compilers at once", n)
		}
		defer compiling.Add(-1)
		time.Sleep(20 * time.Millisecond)
		name := filepath.Base(filepath.Dir(b.out))
		n, _ := built.LoadOrStore(name, new(atomic.Int32))
		n.(*atomic.Int32).Add(1)
		if name == "top" {
			for _, need := range []string{"left", "right"} {
				if _, err := os.Stat(filepath.Join(b.need(need), "file")); err != nil {
					t.Errorf("building top: %v", err)
				}
			}
		}
		return os.WriteFile(filepath.Join(b.out, "file"), nil, 0o644)
	}
	steps := map[string]step{
		"top":   {needs: []string{"left", "right"}, build: build, compiles: true},
		"left":  {build: build, compiles: true},
		"right": {build: build, compiles: true},
	}
	dir := t.TempDir()
	var group errgroup.Group
	for range 2 {
		p := newPlan(t, dir, nil, steps)
		if err := p.add("top"); err != nil {
			t.Fatal(err)
		}
		group.Go(func() error { return p.run(t.Context()) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	built.Range(func(name, n any) bool {
		if got := n.(*atomic.Int32).Load(); got != 1 {
			t.Errorf("%s was built %d times", name, got)
		}
		return true
	})
	again := newPlan(t, dir, nil, steps)
	if err := again.add("top"); err != nil || len(again.todo) > 0 {
		t.Errorf("all is built, and %v is to be done (%v)", again.todo, err)
	}
	if err := os.RemoveAll(again.result("left")); err != nil {
		t.Fatal(err)
	}
	if err := again.add("top"); err != nil || len(again.todo) > 0 {
		t.Errorf("what top needed is to be built again, though top is there: %v (%v)", again.todo, err)
	}
}

func TestFailedBuild(t *testing.T) {
	dir := t.TempDir()
	broken := errors.New("broken")
	p := newPlan(t, dir, nil, map[string]step{
		"base": {build: func(_ context.Context, b *builder) error {
			return errors.Join(os.WriteFile(filepath.Join(b.out, "half"), nil, 0o644), broken)
		}},
		"top": {needs: []string{"base"}, build: func(context.Context, *builder) error {
			t.Error("top is built without what it needs")
			return nil
		}},
	})
	var log bytes.Buffer
	p.log.w = &log
	if err := p.add("top"); err != nil {
		t.Fatal(err)
	}
	if err := p.run(t.Context()); !errors.Is(err, broken) || !strings.Contains(err.Error(), "building base") {
		t.Errorf("error %v", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "base", "[^l]*"))
	if err != nil || len(left) > 0 {
		t.Errorf("a failed build leaves %v (%v)", left, err)
	}
	if !strings.Contains(log.String(), "[1/2] base") {
		t.Errorf("log: %q", log.String())
	}
}

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	for name, age := range map[string]time.Duration{"fresh": 0, "old": 10 * 24 * time.Hour, tmpPrefix + "1": time.Minute} {
		p := filepath.Join(dir, name)
		if err := os.Mkdir(p, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "lock"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := prune(dir, now.Add(-unusedFor)); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range left {
		left[i] = filepath.Base(left[i])
	}
	if got := strings.Join(left, " "); got != "fresh lock" {
		t.Errorf("left: %s", got)
	}
}

func TestLockEndsWithContext(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := lock(ctx, file, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
