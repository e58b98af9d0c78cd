package outputs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// echo answers every script with what it was given, but for those that it has an answer for.
type echo struct {
	answers map[string]string
	ran     []string
}

func (e *echo) Run(_ context.Context, script, input string, vars map[string]string) (string, error) {
	e.ran = append(e.ran, strings.TrimSpace(script+"|"+input+"|"+vars["LEADER"]))
	if script == "fail" {
		return "no such thing", errors.New("exit status 1")
	}
	if out, ok := e.answers[script]; ok {
		return out, nil
	}
	return "out of " + script + "\n", nil
}

const page = `# Page
<!-- first
echo LEADER=x
-->
Text.

<!-- apply -->
` + "```yaml" + `
kind: IPPool
` + "```" + `

<!-- outputs -->
` + "```" + `
$ one
old
$ two \
    more
very old
  $ not a command
` + "```" + `
` + "```" + `
$ left alone
` + "```" + `
`

func TestRun(t *testing.T) {
	p, err := Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{answers: map[string]string{"echo LEADER=x\n": "LEADER=10.0.0.1\nno variable\na/B=c\n", "one": "NAME   \n  a b  \n\n"}}
	vars := map[string]string{}
	got, err := p.Run(t.Context(), e, vars, func(int, string) {})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("old\n$ two", "NAME\n  a b\n\n$ two", "very old\n  $ not a command\n", "out of two \\\n    more\n").Replace(page)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"echo LEADER=x\n||", "kubectl apply -f -|kind: IPPool\n|10.0.0.1", "one||10.0.0.1", "two \\\n    more||10.0.0.1"}, e.ran); diff != "" {
		t.Errorf("ran (-want +got):\n%s", diff)
	}
	// What was written is read again, and comes out the same.
	again, err := Parse(got)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := again.Run(t.Context(), e, vars, func(int, string) {}); err != nil || second != got {
		t.Errorf("a second time (%v):\n%s", err, cmp.Diff(got, second))
	}
}

func TestParseFails(t *testing.T) {
	for text, says := range map[string]string{
		"a\n<!-- first\nx\n":                       `line 2: there is no "-->" after it`,
		"<!-- apply -->\ntext\n":                   "line 1: <!-- apply --> stands before no block",
		"<!-- apply -->":                           "stands before no block",
		"<!-- outputs -->\n```\n$ x\n":             "line 1: there is no \"```\" after it",
		"x\n\n<!-- outputs -->\n```\nno\n```\nx\n": "line 3: there is no command in the block",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: error %v; want %q", text, err, says)
		}
	}
}

// What fails leaves no page, and says where it was and what was printed.
func TestRunFails(t *testing.T) {
	for text, says := range map[string]string{
		"x\n<!-- outputs -->\n```\n$ fail\n```\n":  "line 2: fail: exit status 1: no such thing",
		"<!-- outputs -->\n```\n$ fence\n```\n":    "its output would end the block",
		"\n\n<!-- first\nfence\n-->\n<!-- first\n": "there is no",
	} {
		p, err := Parse(text)
		var got string
		if err == nil {
			got, err = p.Run(t.Context(), &echo{answers: map[string]string{"fence": "```\n"}}, map[string]string{}, func(int, string) {})
		}
		if err == nil || !strings.Contains(err.Error(), says) || got != "" {
			t.Errorf("%q: page %q, error %v; want %q", text, got, err, says)
		}
	}
}

// The pages that make docs-outputs makes anew can be read, and show each state with all that kubectl says of it.
func TestPages(t *testing.T) {
	p, err := read(filepath.Join("..", "..", "docs", "pools.md"))
	if err != nil {
		t.Fatal(err)
	}
	var run []string
	for _, part := range p.parts {
		run = append(run, part.run...)
	}
	states := map[string]string{"normal": "shop", "waiting": "latest", "refused": "picky", "shared": "dns-tcp", "reserved": "mail", "draining": "another"}
	for state, service := range states {
		i := slices.Index(run, "kubectl describe service "+service)
		if i < 1 || run[i-1] != "kubectl get ippools,vips -o wide" {
			t.Errorf("%s: there is no kubectl describe service %s behind a kubectl get ippools,vips -o wide", state, service)
		}
	}
	// Every output is one that is made: none stands there by itself.
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "pools.md"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n$ "); n != len(run) {
		t.Errorf("%d commands in the page, %d of them are run", n, len(run))
	}
}
