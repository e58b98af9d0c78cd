package ruleset

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/seamark-io/seamark/cluster"
)

// Problem is something about a Service, or the node if Service is the zero Name, that cannot be done as wanted. All
// else is done.
type Problem struct {
	Service cluster.Name
	// Reason is a word for events and metrics.
	Reason string
	// Message says what to change.
	Message string
}

// The reasons of Problems.
const (
	ReasonNodeUnknown = "NodeUnknown"
	ReasonNoPodCIDR   = "NoPodCIDR"
	// ReasonNoIPv6 and ReasonNotForwarding are about this node's kernel.
	ReasonNoIPv6        = "NoIPv6"
	ReasonNotForwarding = "NotForwarding"
	ReasonConflict      = "FrontendConflict"
	ReasonInvalid       = "InvalidService"
	ReasonRefused       = "RefusedByKernel"
	// ReasonHealthCheck is kube-proxy's.
	ReasonHealthCheck = "FailedToStartServiceHealthcheck"
)

// OfNode reports whether the Problem is this node's. The others are the cluster's: all nodes find them.
func (p Problem) OfNode() bool { return p.Reason != ReasonConflict && p.Reason != ReasonInvalid }

// RefusedError says that a driver could not do what some Services need; it did everything else.
type RefusedError struct {
	Problems []Problem
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%d Services are left out, first %s: %s", len(e.Problems), e.Problems[0].Service, e.Problems[0].Message)
}

// OrNil returns the error, with its Problems sorted, or nil if it has none.
func (e *RefusedError) OrNil() error {
	if len(e.Problems) == 0 {
		return nil
	}
	slices.SortFunc(e.Problems, compareProblems)
	return e
}

func compareProblems(a, b Problem) int {
	return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Message, b.Message))
}
