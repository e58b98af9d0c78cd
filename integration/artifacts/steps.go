package artifacts

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// KubeNames are the programs of Kubernetes that Binary returns. All are links to one file, cmd/kube.
var KubeNames = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"}

// Images are the names that Image takes.
var Images = []string{"pause", "agnhost", "coredns", "e2e"}

// step is something that is built once and kept: a folder of files.
type step struct {
	about    string   // what happens, for people
	needs    []string // steps whose results it reads
	inputs   []string // what the result depends on, besides needs and sources
	sources  []string // files and folders of this module that the result depends on
	compiles bool     // takes all processors
	build    func(context.Context, *builder) error
}

// builder is what a step has to work with.
type builder struct {
	out   string // the folder to fill
	src   *source
	label string
	log   *lineWriter
	need  func(step string) string // the folder of a needed step's result
}

func (b *builder) printf(format string, args ...any) { b.log.printf(b.label+": "+format, args...) }

// binaries returns the step that builds each program.
func binaries() map[string]string {
	steps := map[string]string{"agnhost": "agnhost", "coredns": "coredns", "e2e.test": "e2e", "ginkgo": "ginkgo"}
	for _, name := range KubeNames {
		steps[name] = "kube"
	}
	return steps
}

// steps returns all recipes for the versions that the source pins.
func steps(src *source) map[string]step {
	kubernetes := src.need["k8s.io/kubernetes"]
	version := kubernetesVersionFlags(kubernetes)
	image := func(about string, build func(context.Context, *builder) error, needs ...string) step {
		return step{about: about, needs: needs, sources: []string{"oci", "artifacts/images.go"}, build: build}
	}
	return map[string]step{
		"kube": goProgram{
			about: "Kubernetes " + kubernetes + ", about 7 minutes on two processors when nothing is compiled yet",
			pkg:   "./cmd/kube", sources: []string{"cmd/kube"}, ldflags: version, after: linkKube,
		}.step(src),
		"pause":   goProgram{about: "the pause program", pkg: "./images/pause", sources: []string{"images/pause"}}.step(src),
		"agnhost": goProgram{about: "Kubernetes' test server agnhost", pkg: "k8s.io/kubernetes/test/images/agnhost", after: copyPorterCertificate}.step(src),
		"regression-issue-74839": goProgram{about: "a test server that sends TCP segments out of window",
			pkg: "k8s.io/kubernetes/test/images/regression-issue-74839"}.step(src),
		"coredns": goProgram{about: "CoreDNS, about 2 minutes", pkg: ".", module: "images/coredns", sources: []string{"images/coredns"}}.step(src),
		"e2e": goProgram{about: "the end-to-end tests of Kubernetes " + kubernetes + ", about 4 minutes", name: "e2e.test",
			pkg: "k8s.io/kubernetes/test/e2e", test: true, ldflags: version}.step(src),
		"ginkgo": goProgram{about: "the test runner", pkg: "github.com/onsi/ginkgo/v2/ginkgo"}.step(src),

		"debian": debianRoot(),

		"image-pause":   image("the pause image", pauseImage, "pause"),
		"image-agnhost": image("the agnhost image", agnhostImage, "debian", "agnhost"),
		"image-coredns": image("the CoreDNS image", coreDNSImage, "coredns"),
		"image-e2e":     image("the images of the end-to-end tests", e2eImages, "debian", "agnhost", "coredns", "regression-issue-74839"),
	}
}

// kubernetesVersionFlags returns the linker flags by which the programs know their version, as upstream's own build sets
// them. Without them they call themselves v0.0.0-master, which clients cannot compare.
func kubernetesVersionFlags(version string) string {
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	var flags []string
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for _, field := range []string{"gitVersion=" + version, "gitMajor=" + major, "gitMinor=" + minor, "gitTreeState=clean", "gitCommit=unknown"} {
			flags = append(flags, "-X "+pkg+"."+field)
		}
	}
	return strings.Join(flags, " ")
}

// linkKube gives the multi-call binary the names of its programs, and sees that it knows them.
func linkKube(ctx context.Context, b *builder) error {
	for _, name := range KubeNames {
		link := filepath.Join(b.out, name)
		if err := os.Symlink("kube", link); err != nil {
			return err
		}
		if out, err := exec.CommandContext(ctx, link, "--help").CombinedOutput(); err != nil {
			return fmt.Errorf("%s --help: %w: %s", name, err, out)
		}
	}
	return nil
}
