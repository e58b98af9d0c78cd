package seamark

import (
	"encoding/json"
	"maps"
	"os/exec"
	"slices"
	"testing"
)

// TestModulesAgreeOnVersions: what two of the modules that a demo builds have in common is compiled once if both require the
// same version of it, and of everything below it. A third of a cold build hangs on this (docs/decisions/three-modules-of-kubernetes.md).
func TestModulesAgreeOnVersions(t *testing.T) {
	seen := map[string]map[string]string{} // version by module, by path
	for _, dir := range []string{".", "integration", "integration/cmd/kube"} {
		for path, version := range requirements(t, dir) {
			if seen[path] == nil {
				seen[path] = map[string]string{}
			}
			seen[path][dir] = version
		}
	}
	for _, path := range slices.Sorted(maps.Keys(seen)) {
		if versions := slices.Compact(slices.Sorted(maps.Values(seen[path]))); len(versions) > 1 {
			t.Errorf("%s is required in different versions: %v: take the newest in each, with go get and go mod tidy", path, seen[path])
		}
	}
}

// requirements returns what a module's go.mod requires.
func requirements(t *testing.T, dir string) map[string]string {
	t.Helper()
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go mod edit -json in %s: %v", dir, err)
	}
	var file struct {
		Require []struct{ Path, Version string }
	}
	if err := json.Unmarshal(out, &file); err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, r := range file.Require {
		versions[r.Path] = r.Version
	}
	return versions
}
