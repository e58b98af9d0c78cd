package ruleset

import (
	"reflect"
	"slices"

	"github.com/seamark-io/seamark/cluster"
)

// Changes lead from one Table to another when they are made in this order: Chains, then all deletions, then all
// additions.
type Changes struct {
	// Chains are new or have other rules.
	Chains []Chain
	// Stale are the names of chains that are not wanted any more. Nothing goes there after the changes.
	Stale []string
	// Shared changes the elements that belong to no Service; Services those of one Service each.
	Shared   Delta
	Services map[cluster.Name]Delta
}

// Delta is a change of elements. An element whose value changes is deleted and added.
type Delta struct {
	Del, Add []Element
}

func (d Delta) empty() bool { return len(d.Del) == 0 && len(d.Add) == 0 }

// Empty reports whether there is nothing to do but to forget stale chains.
func (c *Changes) Empty() bool { return len(c.Chains) == 0 && c.Shared.empty() && len(c.Services) == 0 }

// Diff returns the changes from one table to another. Services whose pointer is the same are not looked at.
func Diff(have, want *Table) Changes {
	c := Changes{Services: map[cluster.Name]Delta{}}
	c.Chains, c.Stale = diffChains(have.Chains, want.Chains)
	c.Shared = diffElements(have.Shared, want.Shared)
	kept := 0
	for name, svc := range want.Services {
		old := have.Services[name]
		if old != nil {
			kept++
		}
		if old != svc {
			if d := diffServices(old, svc); !d.empty() {
				c.Services[name] = d
			}
		}
	}
	if kept == len(have.Services) {
		return c
	}
	for name, old := range have.Services {
		if _, ok := want.Services[name]; !ok {
			if d := diffServices(old, nil); !d.empty() {
				c.Services[name] = d
			}
		}
	}
	return c
}

// Adopt returns the changes from what a table was found to hold to the wanted table. Chains with a name in chains are
// taken for equal to the wanted ones; elements that nobody wants are deleted as Shared.
func Adopt(found []Element, want *Table) Changes {
	values := make(map[Element]string, len(found))
	for _, e := range found {
		values[e.id()] = e.Value
	}
	delta := func(elements []Element) Delta {
		var d Delta
		for _, e := range elements {
			value, ok := values[e.id()]
			delete(values, e.id())
			if ok && value == e.Value {
				continue
			}
			if ok {
				d.Del = append(d.Del, Element{e.Set, e.Key, e.End, value})
			}
			d.Add = append(d.Add, e)
		}
		return d
	}
	c := Changes{Chains: want.Chains, Services: map[cluster.Name]Delta{}}
	c.Shared = delta(want.Shared)
	for name, svc := range want.Services {
		if d := delta(svc.Elements()); !d.empty() {
			c.Services[name] = d
		}
	}
	for e, value := range values {
		e.Value = value
		c.Shared.Del = append(c.Shared.Del, e)
	}
	slices.SortFunc(c.Shared.Del, compareElements)
	return c
}

// Elements returns all elements that the Service has for itself; none for nil.
func (s *Service) Elements() []Element {
	if s == nil {
		return nil
	}
	n := 1
	for i := range s.Frontends {
		n += 2 + len(s.Frontends[i].Endpoints) + len(s.Frontends[i].Local)
	}
	out := make([]Element, 0, n)
	if s.ClusterIP.IsValid() {
		out = append(out, Element{Set: ClusterIPs, Key: string(s.ClusterIP.AsSlice())})
	}
	for i := range s.Frontends {
		out = s.Frontends[i].appendElements(out)
	}
	return out
}

func diffServices(old, new *Service) Delta {
	if old.equal(new) {
		return Delta{}
	}
	return diffElements(old.Elements(), new.Elements())
}

func diffElements(old, new []Element) Delta {
	if slices.Equal(old, new) {
		return Delta{}
	}
	kept := make(map[Element]bool, len(old))
	for _, e := range old {
		kept[e] = false
	}
	var d Delta
	for _, e := range new {
		if _, ok := kept[e]; ok {
			kept[e] = true
			continue
		}
		d.Add = append(d.Add, e)
	}
	for _, e := range old {
		if !kept[e] {
			d.Del = append(d.Del, e)
		}
	}
	return d
}

func diffChains(have, want []Chain) (changed []Chain, stale []string) {
	if reflect.DeepEqual(have, want) {
		return nil, nil
	}
	old := make(map[string]Chain, len(have))
	for _, c := range have {
		old[c.Name] = c
	}
	for _, c := range want {
		if o, ok := old[c.Name]; !ok || !reflect.DeepEqual(o, c) {
			changed = append(changed, c)
		}
		delete(old, c.Name)
	}
	for _, c := range have {
		if _, ok := old[c.Name]; ok {
			stale = append(stale, c.Name)
		}
	}
	return changed, stale
}
