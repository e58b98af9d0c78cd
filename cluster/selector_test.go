package cluster

import "testing"

func TestSelector(t *testing.T) {
	labels := map[string]string{"app": "web", "empty": ""}
	for _, c := range []struct {
		name     string
		selector Selector
		want     bool
	}{
		{"everything", nil, true},
		{"in", Selector{{"app", In, []string{"db", "web"}}}, true},
		{"in, other value", Selector{{"app", In, []string{"db"}}}, false},
		{"in, absent", Selector{{"tier", In, []string{""}}}, false},
		{"in, empty value", Selector{{"empty", In, []string{""}}}, true},
		{"not in", Selector{{"app", NotIn, []string{"db"}}}, true},
		{"not in, has it", Selector{{"app", NotIn, []string{"web"}}}, false},
		{"not in, absent", Selector{{"tier", NotIn, []string{"web"}}}, true},
		{"exists", Selector{{"empty", Exists, nil}}, true},
		{"exists, absent", Selector{{"tier", Exists, nil}}, false},
		{"does not exist", Selector{{"tier", DoesNotExist, nil}}, true},
		{"does not exist, but does", Selector{{"empty", DoesNotExist, nil}}, false},
		{"all must match", Selector{{"app", Exists, nil}, {"tier", Exists, nil}}, false},
		{"unknown operator", Selector{{"app", 99, nil}}, false},
	} {
		if got := c.selector.Matches(labels); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}
