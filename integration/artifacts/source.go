package artifacts

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

const modulePath = "github.com/seamark-io/seamark/integration"

// source is the checkout of this module, whose go.mod pins what is built.
type source struct {
	dir  string
	pins string            // all module versions and the Go release, as text to hash
	need map[string]string // module path → version
}

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
				return readSource(candidate, data)
			}
		}
		if dir == filepath.Dir(dir) {
			return nil, fmt.Errorf("no checkout of Seamark at %s or above it: its integration/go.mod says which versions to build; run this in the checkout", wd)
		}
	}
}

func readSource(dir string, gomod []byte) (*source, error) {
	f, err := modfile.Parse(filepath.Join(dir, "go.mod"), gomod, nil)
	if err != nil {
		return nil, err
	}
	s := &source{dir: dir, need: map[string]string{}}
	pins := []string{runtime.Version(), runtime.GOARCH}
	for _, r := range f.Require {
		s.need[r.Mod.Path] = r.Mod.Version
		pins = append(pins, r.Mod.String())
	}
	for _, r := range f.Replace {
		pins = append(pins, r.Old.String()+" => "+r.New.String())
	}
	slices.Sort(pins)
	s.pins = strings.Join(pins, "\n")
	return s, nil
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
