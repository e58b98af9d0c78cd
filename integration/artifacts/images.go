package artifacts

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/seamark-io/seamark/integration/oci"
)

// References of the images. Those of upstream's tests have the versions of test/utils/image/manifest.go of the pinned
// k8s.io/kubernetes; a test compares them.
const (
	PauseRef   = "registry.k8s.io/pause:3.10.2" // containerd's sandbox_image must say the same
	AgnhostRef = testImages + "agnhost:2.63.0"
	CoreDNSRef = "registry.k8s.io/coredns/coredns:v1.14.7"

	testImages = "registry.k8s.io/e2e-test-images/"
)

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// imageRecipe says how the archive of an image, or of several that belong together, is made.
type imageRecipe struct {
	about string
	needs []string // steps
	build func(context.Context, *builder) error
}

// images returns the recipes by the names that Cache.Image takes.
func images() map[string]imageRecipe {
	return map[string]imageRecipe{
		"pause":   {"the pause image", []string{"pause"}, pauseImage},
		"agnhost": {"the agnhost image", []string{"debian", "agnhost"}, agnhostImage},
		"coredns": {"the CoreDNS image", []string{"coredns"}, coreDNSImage},
		"e2e":     {"the images of the end-to-end tests", []string{"debian", "agnhost", "coredns", "regression-issue-74839"}, e2eImages},
	}
}

func pauseImage(_ context.Context, b *builder) error {
	layer, err := b.program("pause", "pause")
	if err != nil {
		return err
	}
	img, err := oci.NewImage(v1.Config{Entrypoint: []string{"/pause"}, User: "65535:65535"}, layer)
	if err != nil {
		return err
	}
	return b.archive("pause", oci.Named{Image: img, References: []string{PauseRef}})
}

func coreDNSImage(_ context.Context, b *builder) error {
	layer, err := b.program("coredns", "coredns")
	if err != nil {
		return err
	}
	img, err := oci.NewImage(v1.Config{Entrypoint: []string{"/coredns"}, ExposedPorts: map[string]struct{}{"53/tcp": {}, "53/udp": {}}}, layer)
	if err != nil {
		return err
	}
	return b.archive("coredns", oci.Named{Image: img, References: []string{CoreDNSRef}})
}

func agnhostImage(_ context.Context, b *builder) error {
	debian, agnhost, err := b.agnhostLayers()
	if err != nil {
		return err
	}
	img, err := oci.NewImage(agnhostConfig(), debian, agnhost)
	if err != nil {
		return err
	}
	return b.archive("agnhost", oci.Named{Image: img, References: []string{AgnhostRef}})
}

// e2eImages makes what upstream's specs of Services and DNS start. Debian stands for the images that are only a place to
// run a shell, dig or nc in.
func e2eImages(_ context.Context, b *builder) error {
	debian, agnhost, err := b.agnhostLayers()
	if err != nil {
		return err
	}
	coredns, err := b.program("coredns", "coredns") // upstream's agnhost image has it: specs use it as a DNS server
	if err != nil {
		return err
	}
	boomServer, err := b.program("regression-issue-74839", "regression-issue-74839")
	if err != nil {
		return err
	}
	var images []oci.Named
	for _, i := range []struct {
		config     v1.Config
		layers     []v1.Layer
		references []string
	}{
		{agnhostConfig(), []v1.Layer{debian, agnhost, coredns}, []string{AgnhostRef, testImages + "agnhost:2.55"}},
		{v1.Config{Cmd: []string{"sh"}, Env: []string{defaultPath}}, []v1.Layer{debian}, []string{
			testImages + "busybox:1.37.0-1", testImages + "glibc-dns-testing:2.0.0",
		}},
		// The specs want something that runs; what it serves, none of them asks.
		{v1.Config{Entrypoint: []string{"/agnhost", "test-webserver"}, Env: []string{defaultPath}}, []v1.Layer{debian, agnhost}, []string{testImages + "nginx:1.15-4"}},
		{v1.Config{Entrypoint: []string{"/regression-issue-74839"}}, []v1.Layer{boomServer}, []string{testImages + "regression-issue-74839:1.4"}},
	} {
		img, err := oci.NewImage(i.config, i.layers...)
		if err != nil {
			return err
		}
		images = append(images, oci.Named{Image: img, References: i.references})
	}
	return b.archive("e2e", images...)
}

func agnhostConfig() v1.Config {
	return v1.Config{Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}, Env: []string{defaultPath}}
}

func (b *builder) agnhostLayers() (debian, agnhost v1.Layer, err error) {
	debian, err = tarball.LayerFromFile(filepath.Join(b.need("debian"), debianLayer))
	if err != nil {
		return nil, nil, err
	}
	dir := b.need("agnhost")
	agnhost, err = oci.FileLayer(
		oci.File{Path: "agnhost", Source: filepath.Join(dir, "agnhost"), Mode: 0o755},
		oci.File{Path: "agnhost-2", Link: "agnhost"},
		oci.File{Path: "uploads", Mode: fs.ModeDir | 0o755}, // of netexec
		oci.File{Path: "localhost.crt", Source: filepath.Join(dir, "localhost.crt"), Mode: 0o644},
		oci.File{Path: "localhost.key", Source: filepath.Join(dir, "localhost.key"), Mode: 0o644},
	)
	return debian, agnhost, err
}

// program returns a layer with one program of a step in the root folder.
func (b *builder) program(step, name string) (v1.Layer, error) {
	return oci.FileLayer(oci.File{Path: name, Source: filepath.Join(b.need(step), name), Mode: 0o755})
}

func (b *builder) archive(name string, images ...oci.Named) error {
	return oci.WriteArchiveFile(filepath.Join(b.out, name+".tar"), images...)
}

// copyPorterCertificate puts the certificate of agnhost's HTTPS servers beside the program: upstream's image has it in
// its root folder, and the specs of the API server's proxy need it.
func copyPorterCertificate(ctx context.Context, b *builder) error {
	dir, err := goProgram{module: kubeModule}.tool(ctx, b, "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes").Output()
	if err != nil {
		return fmt.Errorf("finding the module k8s.io/kubernetes: %w", withStderr(err))
	}
	for _, name := range []string{"localhost.crt", "localhost.key"} {
		data, err := os.ReadFile(filepath.Join(string(dir[:len(dir)-1]), "test/images/agnhost/porter", name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(b.out, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
