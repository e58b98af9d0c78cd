package oci

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// NewImage returns an image for this machine's architecture with the given layers, lowest first.
func NewImage(config v1.Config, layers ...v1.Layer) (v1.Image, error) {
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return nil, fmt.Errorf("adding layers: %w", err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture = "linux", runtime.GOARCH
	cf.Config = config
	cf.Created = v1.Time{Time: time.Unix(0, 0).UTC()} // as reproducible builds have it; some tools refuse the zero time
	cf.History = nil
	return mutate.ConfigFile(img, cf)
}

// WriteArchive writes the image in the form of `docker save`, named by every reference ("registry/repository:tag"). A
// reference without registry or tag is an error: each tool that reads the archive would complete it in its own way.
func WriteArchive(w io.Writer, img v1.Image, references ...string) error {
	for _, ref := range references {
		if _, err := name.NewTag(ref, name.StrictValidation); err != nil {
			return fmt.Errorf("image reference %q: want registry/repository:tag: %w", ref, err)
		}
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	config, err := img.ConfigName()
	if err != nil {
		return err
	}
	rawConfig, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	// tarball.MultiRefWrite of go-containerregistry would do, but orders several references by chance.
	tw := tar.NewWriter(w)
	d := tarball.Descriptor{Config: config.String(), RepoTags: references}
	if err := writeBlob(tw, d.Config, bytes.NewReader(rawConfig), int64(len(rawConfig))); err != nil {
		return err
	}
	written := map[string]bool{}
	for _, layer := range layers {
		digest, err := layer.Digest()
		if err != nil {
			return err
		}
		file := digest.Hex + ".tar.gz"
		d.Layers = append(d.Layers, file)
		if written[file] {
			continue
		}
		written[file] = true
		if err := writeLayer(tw, file, layer); err != nil {
			return fmt.Errorf("layer %s: %w", digest, err)
		}
	}
	manifest, err := json.Marshal(tarball.Manifest{d})
	if err != nil {
		return err
	}
	if err := writeBlob(tw, "manifest.json", bytes.NewReader(manifest), int64(len(manifest))); err != nil {
		return err
	}
	return tw.Close()
}

func writeLayer(tw *tar.Writer, file string, layer v1.Layer) error {
	size, err := layer.Size()
	if err != nil {
		return err
	}
	r, err := layer.Compressed()
	if err != nil {
		return err
	}
	defer r.Close()
	return writeBlob(tw, file, r, size)
}

func writeBlob(tw *tar.Writer, file string, r io.Reader, size int64) error {
	return writeFile(tw, &tar.Header{Name: file, Mode: 0o444}, r, size)
}

// WriteArchiveFile is WriteArchive into the file path; a file of that name is replaced only when all is written.
func WriteArchiveFile(path string, img v1.Image, references ...string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	if err := errors.Join(WriteArchive(f, img, references...), f.Chmod(0o644), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", path, err), os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), path)
}
