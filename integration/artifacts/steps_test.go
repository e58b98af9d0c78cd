package artifacts

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func testSource(t *testing.T) *source {
	t.Helper()
	checkout, err := FindCheckout("")
	if err != nil {
		t.Fatal(err)
	}
	return module(checkout)
}

// Each step's inputs are there, and each step that something needs exists.
func TestSteps(t *testing.T) {
	src := testSource(t)
	recipes, err := steps(src)
	if err != nil {
		t.Fatal(err)
	}
	p := &plan{dir: t.TempDir(), src: src, steps: recipes, keys: map[string]string{}}
	for name := range recipes {
		if err := p.add(name); err != nil {
			t.Error(err)
		}
	}
	seen := map[string]bool{}
	for _, name := range p.todo {
		for _, need := range recipes[name].needs {
			if !seen[need] {
				t.Errorf("%s comes before %s, which it needs", name, need)
			}
		}
		seen[name] = true
	}
	for _, name := range append(kubeNames(), "agnhost", "coredns", "e2e.test", "ginkgo", "lab-relay") {
		if step, ok := programStep(name); !ok || recipes[step].build == nil {
			t.Errorf("no step for the program %s", name)
		}
	}
	if _, ok := programStep("etcd"); ok {
		t.Error("there is a step for etcd, which comes from Debian")
	}
}

func TestFindCheckout(t *testing.T) {
	want, err := filepath.EvalSymlinks("../..")
	if err == nil {
		want, err = filepath.Abs(want)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{want, filepath.Join(want, "integration"), filepath.Join(want, "integration/images/coredns"), filepath.Join(want, "manifests")} {
		t.Chdir(t.TempDir())
		if got, err := FindCheckout(dir); err != nil || got != want {
			t.Errorf("of %s: %s, %v", dir, got, err)
		}
		t.Chdir(dir)
		if got, err := FindCheckout(""); err != nil || got != want {
			t.Errorf("from %s: %s, %v", dir, got, err)
		}
	}
	t.Chdir(t.TempDir())
	if _, err := FindCheckout(""); err == nil || !strings.Contains(err.Error(), "no checkout of Seamark") {
		t.Errorf("outside of a checkout: %v", err)
	}
}

func TestKubernetesVersionFlags(t *testing.T) {
	got := kubernetesVersionFlags("v1.36.3")
	for _, want := range []string{
		"-X k8s.io/component-base/version.gitVersion=v1.36.3 ", "-X k8s.io/client-go/pkg/version.gitVersion=v1.36.3 ",
		"-X k8s.io/component-base/version.gitMajor=1 ", "-X k8s.io/component-base/version.gitMinor=36 ",
	} {
		if !strings.Contains(got+" ", want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
}

// The references of the images are those of the pinned versions: the suite asks for exactly them.
func TestReferences(t *testing.T) {
	src := testSource(t)
	version, err := src.pinned(coreDNSModule, "github.com/coredns/coredns")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(CoreDNSRef, ":"+version) {
		t.Errorf("%s, and the pinned CoreDNS is %s", CoreDNSRef, version)
	}
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
	cmd.Dir = filepath.Join(src.dir, kubeModule)
	dir, err := cmd.Output()
	if err != nil {
		t.Fatal(withStderr(err))
	}
	manifest, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "test/utils/image/manifest.go"))
	if err != nil {
		t.Fatal(err)
	}
	upstream := map[string]bool{}
	for _, m := range regexp.MustCompile(`Config\{list\.(\w+), "([^"]+)", "([^"]+)"\}`).FindAllStringSubmatch(string(manifest), -1) {
		registry := map[string]string{"PromoterE2eRegistry": strings.TrimSuffix(testImages, "/"), "GcRegistry": "registry.k8s.io"}[m[1]]
		upstream[registry+"/"+m[2]+":"+m[3]] = true
	}
	recipes, err := os.ReadFile("images.go")
	if err != nil {
		t.Fatal(err)
	}
	references := []string{PauseRef}
	for _, m := range regexp.MustCompile(`testImages \+ "([^"]+)"`).FindAllStringSubmatch(string(recipes), -1) {
		references = append(references, testImages+m[1])
	}
	if len(references) < 6 {
		t.Fatalf("only %v found in images.go", references)
	}
	for _, ref := range references {
		if !upstream[ref] {
			t.Errorf("%s is not an image of the pinned suite", ref)
		}
	}
}
