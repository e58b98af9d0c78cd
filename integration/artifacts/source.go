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

// module returns this module in a checkout of Seamark.
func module(checkout string) *source { return &source{dir: filepath.Join(checkout, "integration")} }

// FindCheckout returns the root of the checkout of Seamark that dir is, or is in; "" is the working directory.
func FindCheckout(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for root := dir; ; root = filepath.Dir(root) {
		data, err := os.ReadFile(filepath.Join(module(root).dir, "go.mod"))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", err
		case modfile.ModulePath(data) == modulePath:
			return filepath.EvalSymlinks(root)
		}
		if root == filepath.Dir(root) {
			return "", fmt.Errorf("no checkout of Seamark at %s or above it: what to build, and in which versions, stands there; run this in the checkout, or name it (--source)", dir)
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
