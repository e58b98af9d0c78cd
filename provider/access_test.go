package provider

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	clienttesting "k8s.io/client-go/testing"
)

// calls are what controllers have asked of the API server in all tests, as "verb group resource".
type calls struct {
	mu   sync.Mutex
	seen map[string]bool
}

var called = calls{seen: map[string]bool{}}

func (c *calls) add(actions []clienttesting.Action) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range actions {
		resource := a.GetResource().Resource
		if sub := a.GetSubresource(); sub != "" {
			resource += "/" + sub
		}
		c.seen[strings.Join([]string{a.GetVerb(), a.GetResource().Group, resource}, " ")] = true
	}
}

// compare returns how what was called differs from Access. Of some calls it knows that tests make them too, as users.
func (c *calls) compare() (problems []string) {
	usersToo := map[string]bool{"get  resource": true} // discovery, which everybody may
	for _, verb := range []string{"get", "list", "create", "update", "delete", "patch"} {
		for _, resource := range []string{" services", "seamark.io ippools", "seamark.io vips", "seamark.io vips/status", "seamark.io bgppeers", " namespaces", " nodes", " nodes/status"} {
			usersToo[verb+" "+resource] = true
		}
	}
	declared := map[string]bool{}
	for _, a := range Access() {
		for _, verb := range a.Verbs {
			declared[strings.Join([]string{verb, a.Group, a.Resource}, " ")] = true
		}
	}
	for _, call := range slices.Sorted(maps.Keys(c.seen)) {
		if !declared[call] && !usersToo[call] {
			problems = append(problems, fmt.Sprintf("called, but not declared: %q", call))
		}
	}
	for _, call := range slices.Sorted(maps.Keys(declared)) {
		// The events recorder patches only what the API server has created, which the fake does not keep.
		if !c.seen[call] && call != "patch  events" {
			problems = append(problems, fmt.Sprintf("declared, but never called: %q", call))
		}
	}
	return problems
}

// checkCalls runs after all tests, when nothing was left out.
func checkCalls(m *testing.M) int {
	code := m.Run()
	if code != 0 || testing.Short() || !allTests() {
		return code
	}
	for _, p := range called.compare() {
		fmt.Println("access:", p)
		code = 1
	}
	return code
}

// allTests reports whether neither -run nor -skip selects among the tests.
func allTests() bool {
	return flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == ""
}
