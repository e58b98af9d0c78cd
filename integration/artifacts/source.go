package artifacts

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
)

const modulePath = "github.com/seamark-io/seamark/integration"

// source is the checkout of this module. The programs that are not ours are pinned by two modules inside of it, so that
// nothing that this module needs changes the versions that they are built with:
const (
	kubeModule    = "cmd/kube"       // Kubernetes, its tests and its test images
	coreDNSModule = "images/coredns" // CoreDNS
)

type source struct{ dir string }

// findSource looks for this module at the working directory, above it, and in a folder "integration" of each of those.
func findSource() (*source, error) {
	wd, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		for _, candidate := range []string{dir, filepath.Join(dir, "integration")} {
			data, err := os.ReadFile(filepath.Join(candidate, "go.mod"))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if modfile.ModulePath(data) == modulePath {
				return &source{dir: candidate}, nil
			}
		}
		if dir == filepath.Dir(dir) {
			return nil, fmt.Errorf("no checkout of Seamark at %s or above it: what to build, and in which versions, stands there; run this in the checkout", wd)
		}
	}
}

// pinned returns the version of a dependency that the go.mod in the folder module asks for.
func (s *source) pinned(module, dependency string) (string, error) {
	file := filepath.Join(s.dir, module, "go.mod")
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	f, err := modfile.Parse(file, data, nil)
	if err != nil {
		return "", err
	}
	for _, r := range f.Require {
		if r.Mod.Path == dependency {
			return r.Mod.Version, nil
		}
	}
	return "", fmt.Errorf("%s does not require %s", file, dependency)
}

// hash adds the file, or all files of the folder, to h. Tests are not part of what is built.
func (s *source) hash(h io.Writer, name string) error {
	root := os.DirFS(s.dir)
	return fs.WalkDir(root, name, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(p, "_test.go") {
			return err
		}
		data, err := fs.ReadFile(root, p)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(h, "%s %d\n%s", p, len(data), data)
		return err
	})
}
