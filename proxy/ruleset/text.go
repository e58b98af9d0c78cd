package ruleset

import (
	"fmt"
	"slices"
	"strings"
)

// TableName is the name of our tables, in both families.
const TableName = "seamark"

// Elements returns all elements of the table, sorted.
func (t *Table) Elements() []Element {
	out := slices.Clone(t.Shared)
	for _, svc := range t.Services {
		out = append(out, svc.Elements()...)
	}
	slices.SortFunc(out, compareElements)
	return out
}

// String returns the table as "nft list table" prints it, but with one element in a line and without empty sets and
// types.
func (t *Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", ipWord(t.Family), TableName)
	elements := t.Elements()
	for _, id := range AllSets() {
		n := 0
		for n < len(elements) && elements[n].Set == id {
			n++
		}
		if n == 0 {
			continue
		}
		spec := id.Spec()
		kind := "set"
		if spec.Value != nil {
			kind = "map"
		}
		fmt.Fprintf(&b, "\t%s %s {\n", kind, spec.Name)
		for _, e := range elements[:n] {
			fmt.Fprintf(&b, "\t\t%s\n", e.text(t.Family))
		}
		b.WriteString("\t}\n\n")
		elements = elements[n:]
	}
	for i, c := range t.Chains {
		if i > 0 {
			b.WriteString("\n")
		}
		t.writeChain(&b, c)
	}
	b.WriteString("}\n")
	return b.String()
}

func (t *Table) writeChain(b *strings.Builder, c Chain) {
	fmt.Fprintf(b, "\tchain %s {\n", c.Name)
	if c.Hook != nil {
		fmt.Fprintf(b, "\t\ttype %s hook %s priority %s; policy accept;\n", c.Hook.Type, c.Hook.Hook, c.Hook.priorityText())
	}
	for _, r := range c.Rules {
		words := make([]string, len(r))
		for i, e := range r {
			words[i] = e.text(t.Family)
		}
		fmt.Fprintf(b, "\t\t%s\n", strings.Join(words, " "))
	}
	b.WriteString("\t}\n")
}

// priorityText writes the priority with the names that nft has for the hook.
func (h *Hook) priorityText() string {
	switch {
	case h.Priority == 0:
		return "filter"
	case h.Priority == -100 && h.Hook == Prerouting:
		return "dstnat"
	case h.Priority == 100 && h.Hook == Postrouting:
		return "srcnat"
	default:
		return fmt.Sprint(h.Priority)
	}
}

// String returns both tables.
func (r *Ruleset) String() string { return r.IPv4.String() + "\n" + r.IPv6.String() }
