package cluster

import "slices"

// Selector is a label selector as a value. The zero value matches everything.
type Selector []Requirement

// Operator of a Requirement.
type Operator uint8

// The operators of a Kubernetes label selector.
const (
	In Operator = iota
	NotIn
	Exists
	DoesNotExist
	// Never is met by no labels.
	Never
)

// Nothing returns a Selector that matches nothing.
func Nothing() Selector { return Selector{{Operator: Never}} }

// Requirement is one term of a Selector; Values count for In and NotIn.
type Requirement struct {
	Key      string
	Operator Operator
	Values   []string
}

// Matches reports whether labels meet every requirement. As in Kubernetes, NotIn is met by a label that is absent.
func (s Selector) Matches(labels map[string]string) bool {
	for _, r := range s {
		if !r.matches(labels) {
			return false
		}
	}
	return true
}

func (r Requirement) matches(labels map[string]string) bool {
	value, ok := labels[r.Key]
	switch r.Operator {
	case In:
		return ok && slices.Contains(r.Values, value)
	case NotIn:
		return !ok || !slices.Contains(r.Values, value)
	case Exists:
		return ok
	case DoesNotExist:
		return !ok
	default:
		return false
	}
}
