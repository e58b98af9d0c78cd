package bench

import "fmt"

// Figure is a measured value.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// AtMost is the target, in the same unit; 0 for a figure that has none.
	AtMost float64 `json:"atMost,omitempty"`
	// Slower is by how much this machine is slower than the one that the target is for, as measured in the same run; 0 where
	// that does not matter.
	Slower float64 `json:"slower,omitempty"`
}

// Missed reports whether the figure has a target and is beyond it.
func (f Figure) Missed() bool { return f.AtMost != 0 && f.Value > f.limit() }

// limit is the target on this machine.
func (f Figure) limit() float64 {
	if f.Slower == 0 {
		return f.AtMost
	}
	return f.AtMost * f.Slower
}

// Verdict is a word for how the figure stands to its target, empty without one. "met here" is met on this machine, and would not be
// on the one that the target is for.
func (f Figure) Verdict() string {
	switch {
	case f.AtMost == 0:
		return ""
	case f.Missed():
		return "MISSED"
	case f.Value > f.AtMost:
		return "met here"
	default:
		return "met"
	}
}

// cells are the figure's columns: name, value, target, verdict.
func (f Figure) cells() []string {
	target := ""
	if f.AtMost != 0 {
		target = fmt.Sprintf("≤ %g %s", f.AtMost, f.Unit)
		if f.Slower != 0 {
			target += fmt.Sprintf(", here %s %s", Number(f.limit()), f.Unit)
		}
	}
	return []string{f.Name, Number(f.Value) + " " + f.Unit, target, f.Verdict()}
}

// Number writes a value with three significant digits, or all that a large one has before the point.
func Number(v float64) string {
	switch abs := max(v, -v); {
	case abs == 0 || abs >= 100:
		return fmt.Sprintf("%.0f", v)
	case abs >= 10:
		return fmt.Sprintf("%.1f", v)
	case abs >= 1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}
