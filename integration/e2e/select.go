package e2e

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The regular expressions that make core.txt, loadbalancer.txt and dualstack.txt from all specs. Left out of the core are specs that stop
// nodes or must run alone (Disruptive, Serial), that take many minutes each (Slow), that need a protocol beyond TCP and UDP
// (SCTP), and that rewrite the configuration of a cluster's CoreDNS (configMap).
const (
	coreFocus         = `^\[sig-network\] (Services|DNS|EndpointSlice|Endpoints|Conntrack|Networking Granular|Proxy|Traffic Distribution|Service endpoints latency|API Server|Connectivity|HostPort)`
	coreSkip          = `Disruptive|Slow|Serial|SCTP|DualStack|configMap`
	loadBalancerFocus = `\[Feature:LoadBalancer\]`
	dualStackFocus    = `\[Feature:IPv6DualStack\]`
	dualStackSkip     = `SCTP`
)

// CoreOf returns, of all specs of the suite, those that belong in core.txt.
func CoreOf(all []string) []string { return pick(all, coreFocus, coreSkip) }

// LoadBalancerOf returns, of all specs of the suite, those that belong in loadbalancer.txt.
func LoadBalancerOf(all []string) []string { return pick(all, loadBalancerFocus, "^$") }

// DualStackOf returns, of all specs of the suite, those that belong in dualstack.txt.
func DualStackOf(all []string) []string { return pick(all, dualStackFocus, dualStackSkip) }

func pick(all []string, focus, skip string) []string {
	want, not := regexp.MustCompile(focus), regexp.MustCompile(skip)
	return sorted(all, func(spec string) bool { return want.MatchString(spec) && !not.MatchString(spec) })
}

func sorted(specs []string, want func(string) bool) []string {
	var picked []string
	for _, spec := range specs {
		if want(spec) {
			picked = append(picked, spec)
		}
	}
	slices.Sort(picked)
	return slices.Compact(picked)
}

// ParseSpecs reads what `e2e.test --list-tests` prints: a heading, then "file:line: name" a line.
func ParseSpecs(listing string) ([]string, error) {
	line := regexp.MustCompile(`(?m)^\s+\S+\.go:\d+: (.+)$`)
	var specs []string
	for _, m := range line.FindAllStringSubmatch(listing, -1) {
		specs = append(specs, strings.TrimSpace(m[1]))
	}
	if len(specs) == 0 {
		return nil, fmt.Errorf("no specs in the output of e2e.test --list-tests: %.200q", listing)
	}
	return specs, nil
}

// Selection is what is to be run.
type Selection struct {
	Specs   []string
	Skipped []Skipped
}

// Skipped is a spec that would have been run but for skip.txt.
type Skipped struct{ Spec, Reason string }

// Select picks what to run: the specs of the lists, or all specs if there is no list, of which focus (if not nil) matches
// the name and skip (if not nil) does not. Of all specs, those that skips names are left out. A spec in a list that is not
// in all is an error: the name was changed upstream, or misspelt.
func Select(all []string, lists []List, focus, skip *regexp.Regexp, skips []Skip) (Selection, error) {
	candidates := all
	if len(lists) > 0 {
		candidates = nil
		known := make(map[string]bool, len(all))
		for _, spec := range all {
			known[spec] = true
		}
		var problems []error
		for _, list := range lists {
			for _, spec := range list.Specs {
				if !known[spec] {
					problems = append(problems, fmt.Errorf("%s: the suite has no spec %q", list.Name, spec))
				}
				candidates = append(candidates, spec)
			}
		}
		if err := errors.Join(problems...); err != nil {
			return Selection{}, err
		}
	}
	var s Selection
	for _, spec := range sorted(candidates, func(spec string) bool {
		return (focus == nil || focus.MatchString(spec)) && (skip == nil || !skip.MatchString(spec))
	}) {
		if i := slices.IndexFunc(skips, func(s Skip) bool { return s.matches(spec) }); i >= 0 {
			s.Skipped = append(s.Skipped, Skipped{spec, skips[i].Reason})
			continue
		}
		s.Specs = append(s.Specs, spec)
	}
	if len(s.Specs) == 0 {
		return s, errors.New("no spec is left to run")
	}
	return s, nil
}

// focusPattern returns the regular expression by which ginkgo runs exactly the given specs. It is matched against the name
// of the suite, a space and the spec's name.
func focusPattern(specs []string) string {
	quoted := make([]string, len(specs))
	for i, spec := range specs {
		quoted[i] = regexp.QuoteMeta(spec)
	}
	return "^Kubernetes e2e suite (" + strings.Join(quoted, "|") + ")$"
}
