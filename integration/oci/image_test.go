package oci

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"golang.org/x/sys/unix"
)

// listing returns what a container would see of the image, as text: type, mode, owner, path and content or link.
func listing(t *testing.T, img v1.Image) string {
	t.Helper()
	rc := mutate.Extract(img)
	defer rc.Close()
	var b strings.Builder
	for r := tar.NewReader(rc); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.IsZero() && h.ModTime.Unix() != 0 {
			t.Errorf("%s has the time %v: the image would differ from build to build", h.Name, h.ModTime)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteByte(h.Typeflag)
		b.WriteString(fmt.Sprintf(" %o %s %s %s", h.Mode, h.Name, h.Linkname, data))
		if h.Uid != 0 || h.Gid != 0 {
			b.WriteString(" owned by others")
		}
		for k, v := range h.PAXRecords {
			if strings.HasPrefix(k, "SCHILY.xattr.") {
				b.WriteString(" " + k + "=" + v)
			}
		}
		b.WriteByte('\n')
	}
}

func TestArchiveRoundTrip(t *testing.T) {
	layer := func(path, content string) v1.Layer {
		l, err := FileLayer(File{Path: path, Data: []byte(content), Mode: 0o644})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	image := func(config v1.Config, layers ...v1.Layer) v1.Image {
		img, err := NewImage(config, layers...)
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	build := func() []Named {
		shared := layer("/etc/os-release", "ID=test\n")
		return []Named{
			{image(v1.Config{Entrypoint: []string{"/a"}}, shared, layer("a", "A")), []string{"example.org/test/a:1", "example.org/test/alias:2", "example.org/test/other:3"}},
			{image(v1.Config{Entrypoint: []string{"/b"}}, shared, layer("b", "B")), []string{"example.org/test/b:1"}},
		}
	}
	file := filepath.Join(t.TempDir(), "images.tar")
	images := build()
	if err := WriteArchiveFile(file, images...); err != nil {
		t.Fatal(err)
	}
	for _, named := range images {
		want, err := named.Image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		for _, ref := range named.References {
			tag, err := name.NewTag(ref)
			if err != nil {
				t.Fatal(err)
			}
			got, err := tarball.ImageFromPath(file, &tag)
			if err != nil {
				t.Fatalf("%s: %v", ref, err)
			}
			if err := validate.Image(got); err != nil {
				t.Errorf("%s: %v", ref, err)
			}
			gotConfig, _ := got.ConfigName()
			wantConfig, _ := named.Image.ConfigName()
			if gotConfig != wantConfig {
				t.Errorf("%s: read config %v, wrote %v of image %v", ref, gotConfig, wantConfig, want)
			}
			if diff := cmp.Diff(listing(t, named.Image), listing(t, got)); diff != "" {
				t.Errorf("%s: content differs (-wrote +read):\n%s", ref, diff)
			}
		}
	}
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var second bytes.Buffer
	if err := WriteArchive(&second, build()...); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second.Bytes()) {
		t.Error("two builds from equal inputs differ")
	}
}

func TestWriteArchiveReferences(t *testing.T) {
	img, err := NewImage(v1.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"pause", "pause:3", "example.org/pause", "example.org/Pause:1", ""} {
		if err := WriteArchive(io.Discard, Named{img, []string{ref}}); err == nil {
			t.Errorf("reference %q is taken", ref)
		}
	}
	dir := t.TempDir()
	if err := WriteArchiveFile(filepath.Join(dir, "x.tar"), Named{img, []string{"bad"}}); err == nil {
		t.Error("no error for a bad reference")
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("a failed write leaves %v behind", left)
	}
}

func TestFileLayerConflicts(t *testing.T) {
	for name, files := range map[string][]File{
		"two files":       {{Path: "/a"}, {Path: "a"}},
		"file and folder": {{Path: "a"}, {Path: "a/b"}},
		"no path":         {{Path: "/"}},
	} {
		if _, err := FileLayer(files...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTreeLayer(t *testing.T) {
	root := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(root, "bin"), 0o755))
	must(os.MkdirAll(filepath.Join(root, "doc/en"), 0o755))
	must(os.WriteFile(filepath.Join(root, "bin/ping"), []byte("PING"), 0o755))
	must(os.Link(filepath.Join(root, "bin/ping"), filepath.Join(root, "bin/ping4")))
	must(os.Symlink("ping", filepath.Join(root, "bin/ping6")))
	must(os.WriteFile(filepath.Join(root, "doc/en/ping.1"), []byte("..."), 0o644))
	must(syscall.Mkfifo(filepath.Join(root, "pipe"), 0o644))
	must(os.WriteFile(filepath.Join(root, "su"), nil, 0o755))
	must(syscall.Chmod(filepath.Join(root, "su"), 0o4755))
	want := `0 755 bin/ping  PING
1 755 bin/ping4 bin/ping 
2 777 bin/ping6 ping 
5 755 bin  
0 4755 su  
`
	if os.Geteuid() == 0 {
		// cap_net_raw=ep, as struct vfs_cap_data.
		capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		must(unix.Setxattr(filepath.Join(root, "bin/ping"), "security.capability", []byte(capability), 0))
		want = strings.Replace(want, "PING\n", "PING SCHILY.xattr.security.capability="+capability+"\n", 1)
	} else {
		want = strings.ReplaceAll(want, "\n", " owned by others\n")
	}
	layer, err := TreeLayer(root, func(p string) bool { return p == "doc" })
	must(err)
	img, err := NewImage(v1.Config{}, layer)
	must(err)
	lines := strings.SplitAfter(listing(t, img), "\n")
	wantLines := strings.SplitAfter(want, "\n")
	slices.Sort(lines)
	slices.Sort(wantLines)
	if diff := cmp.Diff(wantLines, lines); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
