package e2e

import (
	"bufio"
	_ "embed" // the lists
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

//go:embed core.txt
var coreList string

//go:embed loadbalancer.txt
var loadBalancerList string

//go:embed dualstack.txt
var dualStackList string

//go:embed skip.txt
var skipList string

// List is a list of specs.
type List struct {
	Name  string // for messages
	Specs []string
}

// ParseList reads full names of specs, one a line. Empty lines and lines that start with # are comments. A name that
// stands there twice is an error.
func ParseList(name string, r io.Reader) (List, error) {
	list := List{Name: name}
	var problems []error
	scanner := bufio.NewScanner(r)
	for n := 1; scanner.Scan(); n++ {
		spec := strings.TrimSpace(scanner.Text())
		if spec == "" || strings.HasPrefix(spec, "#") {
			continue
		}
		if slices.Contains(list.Specs, spec) {
			problems = append(problems, fmt.Errorf("%s:%d: stands there twice: %s", name, n, spec))
			continue
		}
		list.Specs = append(list.Specs, spec)
	}
	return list, errors.Join(append(problems, scanner.Err())...)
}

// Core returns core.txt.
func Core() (List, error) { return ParseList("core.txt", strings.NewReader(coreList)) }

// LoadBalancer returns loadbalancer.txt.
func LoadBalancer() (List, error) {
	return ParseList("loadbalancer.txt", strings.NewReader(loadBalancerList))
}

// DualStack returns dualstack.txt.
func DualStack() (List, error) { return ParseList("dualstack.txt", strings.NewReader(dualStackList)) }

// Skip says why specs cannot pass.
type Skip struct {
	Spec    string         // the full name, or
	Pattern *regexp.Regexp // what matches it
	Reason  string
}

func (s Skip) matches(spec string) bool {
	if s.Pattern != nil {
		return s.Pattern.MatchString(spec)
	}
	return s.Spec == spec
}

// Skips returns skip.txt.
func Skips() ([]Skip, error) { return ParseSkips("skip.txt", strings.NewReader(skipList)) }

// ParseSkips reads entries of a line with a spec's full name, or a regular expression between slashes, and indented lines
// with the reason. Empty lines and lines that start with # are comments. An entry without a reason is an error.
func ParseSkips(name string, r io.Reader) ([]Skip, error) {
	var skips []Skip
	var problems []error
	last := 0 // line of the last entry
	finish := func() {
		if len(skips) > 0 && skips[len(skips)-1].Reason == "" {
			problems = append(problems, fmt.Errorf("%s:%d: no reason: write it below, indented", name, last))
		}
	}
	scanner := bufio.NewScanner(r)
	for n := 1; scanner.Scan(); n++ {
		line := scanner.Text()
		text := strings.TrimSpace(line)
		switch {
		case text == "" || strings.HasPrefix(text, "#"):
		case strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t"):
			if len(skips) == 0 {
				problems = append(problems, fmt.Errorf("%s:%d: a reason without a spec above it", name, n))
				continue
			}
			reason := &skips[len(skips)-1].Reason
			*reason = strings.TrimSpace(*reason + " " + text)
		default:
			finish()
			last = n
			skip := Skip{Spec: text}
			if pattern, ok := strings.CutPrefix(text, "/"); ok && len(pattern) > 1 && strings.HasSuffix(pattern, "/") {
				re, err := regexp.Compile(strings.TrimSuffix(pattern, "/"))
				if err != nil {
					problems = append(problems, fmt.Errorf("%s:%d: %w", name, n, err))
				}
				skip = Skip{Pattern: re}
			}
			skips = append(skips, skip)
		}
	}
	finish()
	return skips, errors.Join(append(problems, scanner.Err())...)
}
