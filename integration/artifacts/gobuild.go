package artifacts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// progressEvery is the time between two lines of progress.
const progressEvery = 10 * time.Second

// goProgram is a Go program to build, static and without paths of this machine in it.
type goProgram struct {
	about   string
	module  string   // the folder of the module whose go.mod pins the versions; "": this module
	pkg     string   // import path, or path relative to module
	name    string   // of the file; "": the last element of pkg
	test    bool     // pkg's tests rather than pkg
	ldflags string   // besides those that strip
	sources []string // of this module
	after   func(context.Context, *builder) error
}

func (g goProgram) step() step {
	return step{
		about:    g.about,
		inputs:   []string{runtime.Version(), runtime.GOARCH, g.ldflags},
		sources:  append([]string{"artifacts/gobuild.go"}, g.sources...),
		compiles: true,
		build:    g.build,
	}
}

func (g goProgram) build(ctx context.Context, b *builder) error {
	name := g.name
	if name == "" {
		name = path.Base(g.pkg)
	}
	if name == "." {
		name = path.Base(g.module)
	}
	args := []string{"build", "-v"}
	if g.test {
		args = []string{"test", "-c", "-v"}
	}
	args = append(args, "-trimpath", "-ldflags", strings.TrimSpace("-s -w "+g.ldflags), "-o", filepath.Join(b.out, name), g.pkg)
	if err := g.run(ctx, b, args); err != nil {
		return err
	}
	if g.after != nil {
		return g.after(ctx, b)
	}
	return nil
}

// run runs the go command and reports how many packages it has compiled. go build -v names each package that is not in
// Go's own build cache, and each module that it downloads.
func (g goProgram) run(ctx context.Context, b *builder, args []string) error {
	total, err := g.command(ctx, b, "list", "-deps", g.pkg).Output()
	if err != nil {
		return fmt.Errorf("go list -deps %s: %w", g.pkg, withStderr(err))
	}
	packages := strings.Count(string(total), "\n")

	cmd := g.command(ctx, b, args...)
	stderr, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan error, 1)
	go func() {
		exited <- cmd.Wait()
		w.Close()
	}()
	var compiled, downloaded int
	var messages []string // what is neither: errors
	start, next := time.Now(), time.Now().Add(progressEvery)
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "go: downloading "):
			downloaded++
		case strings.ContainsAny(line, " :\t"):
			messages = append(messages, line)
		default:
			compiled++
		}
		if now := time.Now(); now.After(next) {
			next = now.Add(progressEvery)
			b.printf("%d of at most %d packages compiled, %d modules downloaded, %s", compiled, packages, downloaded, now.Sub(start).Round(time.Second))
		}
	}
	if err := <-exited; err != nil {
		return errors.Join(fmt.Errorf("go %s: %w", strings.Join(args, " "), err), errors.New(strings.Join(messages, "\n")))
	}
	return nil
}

func (g goProgram) command(ctx context.Context, b *builder, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(b.src.dir, g.module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off")
	// The go command ends its compilers when interrupted; killed, it would leave them running.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// withStderr adds to an error of exec.Cmd.Output what the program said.
func withStderr(err error) error {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return err
}
