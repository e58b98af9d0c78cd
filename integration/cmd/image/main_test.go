package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	dockerfile, archive := filepath.Join(dir, "Dockerfile"), filepath.Join(dir, "made/by/image.tar")
	for file, text := range map[string]string{dockerfile: "FROM scratch\nCOPY agent /agent\nUSER 1:1\n", filepath.Join(dir, "agent"): "x"} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		args []string
		want int
	}{
		{[]string{"-f", dockerfile, "-t", "example.org/agent:1", "-t", "example.org/agent:2", "-o", archive, dir}, 0},
		{[]string{"-f", dockerfile, "-t", "agent", "-o", archive, dir}, 1},
		{[]string{"-f", dockerfile, "-t", "example.org/agent:1", "-o", archive, filepath.Join(dir, "absent")}, 1},
		{[]string{"-f", dockerfile, "-o", archive, dir}, 2},
		{[]string{"-f", dockerfile, "-t", "example.org/agent:1", "-o", archive}, 2},
		{[]string{"--what"}, 2},
	} {
		if got := run(tt.args); got != tt.want {
			t.Errorf("image %v: status %d, want %d", tt.args, got, tt.want)
		}
	}
	for _, ref := range []string{"example.org/agent:1", "example.org/agent:2"} {
		tag, err := name.NewTag(ref)
		if err != nil {
			t.Fatal(err)
		}
		img, err := tarball.ImageFromPath(archive, &tag)
		if err != nil {
			t.Fatal(err)
		}
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Config.User != "1:1" {
			t.Errorf("%s: user %q", ref, config.Config.User)
		}
	}
}
