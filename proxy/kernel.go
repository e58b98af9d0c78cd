package proxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/conntrack"
	"github.com/seamark-io/seamark/proxy/nft"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// defaultSysctlRoot is where the kernel's settings are.
const defaultSysctlRoot = "/proc/sys"

// Probe finds out whether this node's kernel has what the proxy needs, and lets this process use it. The error names all that
// is missing. It changes nothing. A kernel without IPv6 needs to have nothing for it. sysctlRoot is that of Config.
func Probe(sysctlRoot string) error {
	return errors.Join(nft.Probe(families(sysctlRoot)...), conntrack.Probe())
}

// Cleanup removes everything that the proxy leaves in the kernel.
func Cleanup(ctx context.Context) error {
	rules, err := nft.New(families("")...)
	if err != nil {
		return err
	}
	return errors.Join(rules.Cleanup(ctx), rules.Close())
}

// families returns those that the kernel has.
func families(sysctlRoot string) []cluster.Family {
	if sysctlRoot == "" {
		sysctlRoot = defaultSysctlRoot
	}
	if _, err := os.Stat(filepath.Join(sysctlRoot, "net/ipv6/conf")); errors.Is(err, os.ErrNotExist) {
		return []cluster.Family{cluster.IPv4}
	}
	return []cluster.Family{cluster.IPv4, cluster.IPv6}
}

// kernelProblems returns what the kernel's settings keep from working, as far as the tables have use for it.
func kernelProblems(sysctlRoot string, families []cluster.Family, r *ruleset.Ruleset) []ruleset.Problem {
	var problems []ruleset.Problem
	for _, t := range r.Tables() {
		if len(t.Services) == 0 {
			continue
		}
		if !slices.Contains(families, t.Family) {
			problems = append(problems, ruleset.Problem{Reason: ruleset.ReasonNoIPv6, Message: "Services have IPv6 addresses, which this node does not serve: its kernel is without IPv6"})
			continue
		}
		setting := "net/ipv4/ip_forward"
		if t.Family == cluster.IPv6 {
			setting = "net/ipv6/conf/all/forwarding"
		}
		// What cannot be read may be right.
		if b, err := os.ReadFile(filepath.Join(sysctlRoot, setting)); err == nil && strings.TrimSpace(string(b)) == "0" {
			problems = append(problems, ruleset.Problem{
				Reason:  ruleset.ReasonNotForwarding,
				Message: fmt.Sprintf("the node does not forward %s packets, so no pod is reached through a Service from elsewhere: set %s=1", t.Family, strings.ReplaceAll(setting, "/", ".")),
			})
		}
	}
	return problems
}
