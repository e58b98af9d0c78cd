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
	"strings"
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

// Named is an image and the references ("registry/repository:tag") that an archive gives it.
type Named struct {
	Image      v1.Image
	References []string
}

// WriteArchive writes images in the form of `docker save`; a layer that several have is written once. A reference without
// registry or tag is an error: each tool that reads the archive would complete it in its own way.
//
// (go-containerregistry's tarball.MultiRefWrite orders images and references by chance.)
func WriteArchive(w io.Writer, images ...Named) error {
	tw := tar.NewWriter(w)
	written := map[string]bool{}
	var manifest tarball.Manifest
	for _, img := range images {
		d, err := writeImage(tw, img, written)
		if err != nil {
			return fmt.Errorf("image %s: %w", strings.Join(img.References, ", "), err)
		}
		manifest = append(manifest, d)
	}
	data, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	if err := writeBlob(tw, "manifest.json", bytes.NewReader(data), int64(len(data))); err != nil {
		return err
	}
	return tw.Close()
}

// writeImage writes the blobs of an image that are not in written yet, and returns its entry for the manifest.
func writeImage(tw *tar.Writer, img Named, written map[string]bool) (tarball.Descriptor, error) {
	d := tarball.Descriptor{RepoTags: img.References}
	for _, ref := range img.References {
		if _, err := name.NewTag(ref, name.StrictValidation); err != nil {
			return d, fmt.Errorf("want registry/repository:tag: %w", err)
		}
	}
	digest, err := img.Image.ConfigName()
	if err != nil {
		return d, err
	}
	config, err := img.Image.RawConfigFile()
	if err != nil {
		return d, err
	}
	d.Config = digest.String()
	if !written[d.Config] {
		written[d.Config] = true
		if err := writeBlob(tw, d.Config, bytes.NewReader(config), int64(len(config))); err != nil {
			return d, err
		}
	}
	layers, err := img.Image.Layers()
	if err != nil {
		return d, err
	}
	for _, layer := range layers {
		digest, err := layer.Digest()
		if err != nil {
			return d, err
		}
		file := digest.Hex + ".tar.gz"
		d.Layers = append(d.Layers, file)
		if written[file] {
			continue
		}
		written[file] = true
		if err := writeLayer(tw, file, layer); err != nil {
			return d, fmt.Errorf("layer %s: %w", digest, err)
		}
	}
	return d, nil
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
func WriteArchiveFile(path string, images ...Named) error {
	return replaceFile(path, func(w io.Writer) error { return WriteArchive(w, images...) })
}

// WriteLayerFile writes the layer, compressed, into the file path, for tarball.LayerFromFile to read again.
func WriteLayerFile(path string, layer v1.Layer) error {
	return replaceFile(path, func(w io.Writer) error {
		r, err := layer.Compressed()
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(w, r)
		return err
	})
}

func replaceFile(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Chmod(0o644), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", path, err), os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), path)
}
