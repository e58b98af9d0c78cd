package outputs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/seamark-io/seamark/integration/lab"
)

// labName is the name of the lab that is made where none is given.
const labName = "docs"

// Options of a run.
type Options struct {
	// Lab is the name of a lab that is up, with nothing in it but Seamark, and agnhost on its nodes. If it is empty one is
	// made, and taken down in any case.
	Lab string
	// Log receives progress.
	Log io.Writer
}

// Update runs the commands of some pages, one page after the other, and writes the pages that have changed. A page must
// remove what it has made.
func Update(ctx context.Context, o Options, files ...string) (err error) {
	pages := make([]Page, len(files))
	for i, file := range files {
		if pages[i], err = read(file); err != nil {
			return err
		}
	}
	l, err := open(ctx, o)
	if l != nil && o.Lab == "" {
		defer func() { err = errors.Join(err, lab.Down(context.WithoutCancel(ctx), labName, o.Log)) }()
	}
	if err != nil {
		return err
	}
	defer l.Close()
	host, err := l.Host("cp")
	if err != nil {
		return err
	}
	for i, file := range files {
		vars := map[string]string{"SOURCE": l.Options().Source}
		page, err := pages[i].Run(ctx, shell{host}, vars, func(line int, what string) {
			fmt.Fprintf(o.Log, "%s:%d: %s\n", file, line, what)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func read(file string) (Page, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Page{}, err
	}
	p, err := Parse(string(text))
	if err != nil {
		return Page{}, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

func open(ctx context.Context, o Options) (*lab.Lab, error) {
	if o.Lab != "" {
		return lab.Open(o.Lab)
	}
	root, err := exec.CommandContext(ctx, "git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return nil, fmt.Errorf("find the checkout of Seamark around the working directory: %w", err)
	}
	if err := lab.Down(ctx, labName, nil); err != nil { // what a killed run left
		return nil, err
	}
	options := lab.DefaultOptions()
	options.Name, options.Source, options.Progress = labName, strings.TrimSpace(string(root)), o.Log
	options.Images = []string{"agnhost"} // of the pages' pods
	return lab.Up(ctx, options)
}

// limit is how long one script may take.
const limit = 2 * time.Minute

// shell runs scripts on a host of a lab.
type shell struct{ host *lab.Host }

// Run is that of a [Shell].
func (s shell) Run(ctx context.Context, script, input string, vars map[string]string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("gave up after %s", limit))
	defer cancel()
	args := []string{"env"}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		args = append(args, name+"="+vars[name])
	}
	cmd := s.host.Command(ctx, append(args, "bash", "-euo", "pipefail", "-c", script)...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return string(out), err
}
