package artifacts

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// kubeNames returns the programs that cmd/kube is. All are links to one file.
func kubeNames() []string {
	return []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"}
}

// imagePrefix stands before an image's name in the name of the step that builds it.
const imagePrefix = "image-"

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

// programStep returns the step that builds a program, and whether there is one.
func programStep(name string) (string, bool) {
	switch {
	case slices.Contains(kubeNames(), name):
		return "kube", true
	case name == "e2e.test":
		return "e2e", true
	}
	return name, slices.Contains([]string{"agnhost", "coredns", "ginkgo", "lab-relay"}, name)
}

// steps returns all recipes for the versions that the source pins.
func steps(src *source) (map[string]step, error) {
	version, err := src.pinned(kubeModule, "k8s.io/kubernetes")
	if err != nil {
		return nil, err
	}
	versionFlags := kubernetesVersionFlags(version)
	kubePins := []string{kubeModule + "/go.mod", kubeModule + "/go.sum"}
	steps := map[string]step{
		"kube": goProgram{
			about:  "Kubernetes " + version + ", about 7 minutes on two processors when nothing is compiled yet",
			module: kubeModule, pkg: ".", sources: []string{kubeModule}, ldflags: versionFlags, after: linkKube,
		}.step(),
		"agnhost": goProgram{
			about:  "agnhost, the server and client of Kubernetes' tests",
			module: kubeModule, pkg: "k8s.io/kubernetes/test/images/agnhost", sources: kubePins, after: copyPorterCertificate,
		}.step(),
		"regression-issue-74839": goProgram{
			about:  "a test server that sends TCP segments out of window",
			module: kubeModule, pkg: "k8s.io/kubernetes/test/images/regression-issue-74839", sources: kubePins,
		}.step(),
		"e2e": goProgram{
			about:  "the end-to-end tests of Kubernetes " + version + ", about 4 minutes",
			module: kubeModule, pkg: "k8s.io/kubernetes/test/e2e", test: true, name: "e2e.test", sources: kubePins, ldflags: versionFlags,
		}.step(),
		"ginkgo": goProgram{
			about:  "ginkgo, the runner of the end-to-end tests",
			module: kubeModule, pkg: "github.com/onsi/ginkgo/v2/ginkgo", sources: kubePins,
		}.step(),
		"coredns": goProgram{
			about:  "CoreDNS, about a minute",
			module: coreDNSModule, pkg: ".", sources: []string{coreDNSModule},
		}.step(),
		"pause":     goProgram{about: "the pause program", pkg: "./images/pause", sources: []string{"images/pause"}}.step(),
		"lab-relay": goProgram{about: "the relay for kubectl", pkg: "./cmd/lab-relay", sources: []string{"cmd/lab-relay"}}.step(),
		"debian":    debianRoot(),
	}
	for name, recipe := range images() {
		steps[imagePrefix+name] = step{
			about: recipe.about, needs: recipe.needs, build: recipe.build,
			sources: []string{"oci/image.go", "oci/layer.go", "artifacts/images.go"},
		}
	}
	return steps, nil
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
	for _, name := range kubeNames() {
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
