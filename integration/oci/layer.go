package oci

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

// File is one entry of a layer. Its content is that of the file Source, or Data when Source is empty; with Link it is a
// symbolic link, and with ModeDir in Mode a folder. Everything belongs to UID and GID (0: root).
type File struct {
	Path     string // in the image; a leading slash makes no difference
	Mode     fs.FileMode
	Source   string // on this machine
	Data     []byte
	Link     string
	UID, GID int
}

// FileLayer returns a layer of the given files and of the folders above them (owned by root, mode 0755). Two files at one
// path are an error.
func FileLayer(files ...File) (v1.Layer, error) {
	entries := map[string]File{}
	for _, f := range files {
		p := entryName(f.Path)
		if p == "" {
			return nil, fmt.Errorf("%q is no path for a file in an image", f.Path)
		}
		if old, ok := entries[p]; ok && (!old.Mode.IsDir() || !f.Mode.IsDir()) {
			return nil, fmt.Errorf("two files for /%s in one layer", p)
		}
		f.Path = p
		entries[p] = f
	}
	for p := range entries {
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			if f, ok := entries[dir]; ok && !f.Mode.IsDir() {
				return nil, fmt.Errorf("/%s is a file and the folder of /%s in one layer", dir, p)
			} else if !ok {
				entries[dir] = File{Path: dir, Mode: fs.ModeDir | 0o755}
			}
		}
	}
	sorted := make([]File, 0, len(entries))
	for _, f := range entries {
		sorted = append(sorted, f)
	}
	slices.SortFunc(sorted, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return newLayer(func(w *tar.Writer) error {
		for _, f := range sorted {
			if err := f.write(w); err != nil {
				return fmt.Errorf("/%s: %w", f.Path, err)
			}
		}
		return nil
	})
}

func (f File) write(w *tar.Writer) error {
	h := &tar.Header{Name: f.Path, Mode: int64(f.Mode.Perm()), Uid: f.UID, Gid: f.GID, Format: tar.FormatPAX}
	switch {
	case f.Mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, f.Path+"/"
		return w.WriteHeader(h)
	case f.Link != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.Link, 0o777
		return w.WriteHeader(h)
	case f.Source == "":
		return writeFile(w, h, bytes.NewReader(f.Data), int64(len(f.Data)))
	}
	src, err := os.Open(f.Source)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", f.Source)
	}
	return writeFile(w, h, src, info.Size())
}

func writeFile(w *tar.Writer, h *tar.Header, content io.Reader, size int64) error {
	h.Typeflag, h.Size = tar.TypeReg, size
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(w, content)
	return err
}

// TreeLayer returns a layer of everything under root as it is there: numeric owners, modes, hard links, symbolic links and
// file capabilities. Sockets, pipes and devices are left out: a container's runtime makes the ones that it needs. Files
// for which skip (if not nil) is true are left out as well, folders with all that is in them; it gets slash-separated
// paths without a leading slash.
func TreeLayer(root string, skip func(path string) bool) (v1.Layer, error) {
	return newLayer(func(w *tar.Writer) error {
		firstName := map[uint64]string{} // by inode, of files with several names
		return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, p)
			if err != nil || rel == "." {
				return err
			}
			name := filepath.ToSlash(rel)
			if skip != nil && skip(name) {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			return writeTreeEntry(w, p, name, d, firstName)
		})
	})
}

func writeTreeEntry(w *tar.Writer, p, name string, d fs.DirEntry, firstName map[uint64]string) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	// The mode as the kernel has it: fs.FileMode keeps setuid and the sticky bit elsewhere.
	h := &tar.Header{Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), Format: tar.FormatPAX}
	switch info.Mode().Type() {
	case fs.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		return w.WriteHeader(h)
	case fs.ModeSymlink:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = os.Readlink(p); err != nil {
			return err
		}
		return w.WriteHeader(h)
	case 0:
	default:
		return nil
	}
	if st.Nlink > 1 {
		if first, ok := firstName[st.Ino]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return w.WriteHeader(h)
		}
		firstName[st.Ino] = name
	}
	if h.PAXRecords, err = capabilities(p); err != nil {
		return err
	}
	src, err := os.Open(p)
	if err != nil {
		return err
	}
	defer src.Close()
	return writeFile(w, h, src, info.Size())
}

// capabilities returns the PAX record of the file capabilities of p, such as ping has, or nil.
func capabilities(p string) (map[string]string, error) {
	const name = "security.capability"
	buf := make([]byte, 64) // struct vfs_ns_cap_data has 24 bytes
	n, err := unix.Lgetxattr(p, name, buf)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s of %s: %w", name, p, err)
	}
	return map[string]string{"SCHILY.xattr." + name: string(buf[:n])}, nil
}

// newLayer runs write, once to a temporary file, and returns a layer that reads from there. The file has no name, so
// nothing is left behind whatever happens.
func newLayer(write func(*tar.Writer) error) (v1.Layer, error) {
	f, err := os.CreateTemp("", "layer-*.tar.gz")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	// Layers go to a disk next to us and are unpacked at once on every node: speed counts more than size.
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(z)
	if err := errors.Join(write(w), w.Close(), z.Close()); err != nil {
		f.Close()
		return nil, err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, err
	}
	// Each opening reads by offset, so readers do not disturb each other; the file closes when nothing refers to it.
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(f, 0, size)), nil
	})
}

// entryName is a path as archives have it: clean, relative; "" for the root.
func entryName(p string) string {
	return strings.TrimPrefix(path.Clean("/"+p), "/")
}
