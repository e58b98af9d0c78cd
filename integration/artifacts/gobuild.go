package artifacts

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
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
		inputs:   append([]string{runtime.Version(), runtime.GOARCH}, g.command()...),
		sources:  g.sources,
		compiles: true,
		build:    g.build,
	}
}

// command returns what is to be built how, to go before -o and the file.
func (g goProgram) command() []string {
	command := []string{"build"}
	if g.test {
		command = []string{"test", "-c", "-vet=off"} // vet would look at each of the packages below it
	}
	// The flags of the Makefile: what Seamark's own programs share with this one, the go command has then compiled already.
	return append(command, "-v", "-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", strings.TrimSpace("-s -w "+g.ldflags), g.pkg)
}

func (g goProgram) build(ctx context.Context, b *builder) error {
	name := g.name
	if name == "" {
		name = path.Base(filepath.Join(g.module, g.pkg))
	}
	command := g.command()
	last := len(command) - 1
	command = slices.Insert(command, last, "-o", filepath.Join(b.out, name))
	if err := g.run(ctx, b, command); err != nil {
		return err
	}
	if g.after != nil {
		return g.after(ctx, b)
	}
	return nil
}

// run runs the go command, after finding out how many packages there are to compile, and reports how far it is.
func (g goProgram) run(ctx context.Context, b *builder, args []string) error {
	progress := &goProgress{builder: b, start: time.Now()}
	var deps bytes.Buffer
	list := g.tool(ctx, b, "list", "-deps", g.pkg)
	list.Stdout = &deps
	if err := progress.follow(list); err != nil {
		return err
	}
	progress.packages = bytes.Count(deps.Bytes(), []byte("\n"))
	return progress.follow(g.tool(ctx, b, args...))
}

// goProgress counts what a go command says that it does.
type goProgress struct {
	*builder
	start                          time.Time
	packages, compiled, downloaded int
	messages                       []string // what is no progress: errors
}

// follow runs the command, reads what it says on its standard error, and reports how far it is: go names each module that it
// downloads and, with -v, each package that it compiles because it is not in Go's own build cache. While it links, which of
// the largest programs takes a minute, it says nothing.
func (p *goProgress) follow(cmd *exec.Cmd) error {
	stderr, w := io.Pipe()
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan error, 1)
	go func() {
		exited <- cmd.Wait()
		_ = w.Close()
	}()
	lines := make(chan string)
	go func() {
		defer close(lines)
		for said := bufio.NewScanner(stderr); said.Scan(); {
			lines <- said.Text()
		}
	}()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case line, ok := <-lines:
			if ok {
				p.line(line)
				continue
			}
			if err := <-exited; err != nil {
				return errors.Join(fmt.Errorf("%s: %w", cmd, err), errors.New(strings.Join(p.messages, "\n")))
			}
			return nil
		case <-tick.C:
			p.report()
		}
	}
}

func (p *goProgress) line(line string) {
	switch {
	case strings.HasPrefix(line, "go: downloading "):
		p.downloaded++
	case strings.ContainsAny(line, " :\t"):
		p.messages = append(p.messages, line)
	default:
		p.compiled++
	}
}

func (p *goProgress) report() {
	took := time.Since(p.start).Round(time.Second)
	if p.packages == 0 {
		p.printf("%d modules downloaded, %s", p.downloaded, took)
		return
	}
	p.printf("%d of at most %d packages compiled, %s", p.compiled, p.packages, took)
}

// tool returns the go command with the arguments, in the module.
func (g goProgram) tool(ctx context.Context, b *builder, args ...string) *exec.Cmd {
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
