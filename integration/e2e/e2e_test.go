package e2e

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The package's documentation says how many specs of [Feature:LoadBalancer] upstream has, and which of them are not in
// seamark.txt.
func TestLoadBalancersListed(t *testing.T) {
	lb, err := LoadBalancer()
	if err != nil {
		t.Fatal(err)
	}
	listed, err := os.ReadFile("seamark.txt")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(listed), "\n")
	all, in := 0, 0
	for _, spec := range lb.Specs {
		if !strings.Contains(spec, "[Feature:LoadBalancer]") {
			continue
		}
		all++
		_, what, _ := strings.Cut(spec, "[Feature:LoadBalancer] ")
		what, _, _ = strings.Cut(what, " [")
		named := strings.Contains(string(doc), "//   - "+what+"\n")
		if is := slices.Contains(lines, spec); is {
			in++
			if named {
				t.Errorf("doc.go says that this is not in seamark.txt: %s", spec)
			}
		} else if !named {
			t.Errorf("not in seamark.txt, and not in doc.go: %s", spec)
		}
	}
	if want := fmt.Sprintf("has %d specs, all in loadbalancer.txt. %d of them", all, in); !strings.Contains(string(doc), want) {
		t.Errorf("doc.go should say that upstream %s are in seamark.txt", want)
	}
}

// The lists in this folder are well formed, and hang together.
func TestLists(t *testing.T) {
	core, err := Core()
	if err != nil {
		t.Error(err)
	}
	lb, err := LoadBalancer()
	if err != nil {
		t.Error(err)
	}
	dual, err := DualStack()
	if err != nil {
		t.Error(err)
	}
	all := slices.Concat(core.Specs, lb.Specs, dual.Specs)
	if len(core.Specs) != 119 || len(lb.Specs) != 17 || len(dual.Specs) != 22 {
		t.Errorf("%d core specs, %d for load balancers, %d for dual stack; if upstream changed them, change this too", len(core.Specs), len(lb.Specs), len(dual.Specs))
	}
	if diff := cmp.Diff(core.Specs, CoreOf(all)); diff != "" {
		t.Errorf("core.txt is not what its regular expressions pick: -have +want\n%s", diff)
	}
	if diff := cmp.Diff(lb.Specs, LoadBalancerOf(all)); diff != "" {
		t.Errorf("loadbalancer.txt is not what its regular expression picks: -have +want\n%s", diff)
	}
	if diff := cmp.Diff(dual.Specs, DualStackOf(all)); diff != "" {
		t.Errorf("dualstack.txt is not what its regular expressions pick: -have +want\n%s", diff)
	}
	skips, err := Skips()
	if err != nil {
		t.Error(err)
	}
	for _, skip := range skips {
		used := false
		for _, spec := range all {
			used = used || skip.matches(spec)
		}
		if !used {
			t.Errorf("skip.txt: %s%v is none of the listed specs", skip.Spec, skip.Pattern)
		}
	}
	seamarkList(t, all, skips)
}

// seamark.txt only grows: it has all listed specs but those that cannot pass here and these.
func seamarkList(t *testing.T, all []string, skips []Skip) {
	t.Helper()
	missing := []string{
		"[sig-network] LoadBalancers [Feature:LoadBalancer] should be able to switch session affinity for LoadBalancer service with Local traffic policy [Slow] [LinuxOnly]",
		"[sig-network] LoadBalancers [Feature:LoadBalancer] should not have connectivity disruption during rolling update with externalTrafficPolicy=Cluster [Slow]",
		"[sig-network] LoadBalancers [Feature:LoadBalancer] should not have connectivity disruption during rolling update with externalTrafficPolicy=Local [Slow]",
		"[sig-network] Services should be possible to connect to a service via ExternalIP when the external IP is not assigned to a node",
	}
	const least = 153
	f, err := os.Open("seamark.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seamark, err := ParseList("seamark.txt", f)
	if err != nil {
		t.Error(err)
	}
	if len(seamark.Specs) < least {
		t.Errorf("seamark.txt has %d specs, and had %d", len(seamark.Specs), least)
	}
	if _, err := Select(all, []List{seamark}, nil, nil, nil); err != nil {
		t.Error(err)
	}
	rest := sorted(all, func(spec string) bool {
		return !slices.Contains(seamark.Specs, spec) && !slices.ContainsFunc(skips, func(s Skip) bool { return s.matches(spec) })
	})
	if diff := cmp.Diff(missing, rest); diff != "" {
		t.Errorf("not in seamark.txt is something else than what its head says: -want +got\n%s", diff)
	}
}

func TestParseList(t *testing.T) {
	got, err := ParseList("x", strings.NewReader("# c\n\n  a b [C]  \nb # not a comment\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a b [C]", "b # not a comment"}, got.Specs); diff != "" {
		t.Error(diff)
	}
	if _, err := ParseList("x.txt", strings.NewReader("a\nb\na\n")); err == nil || !strings.Contains(err.Error(), "x.txt:3: stands there twice: a") {
		t.Errorf("error %v", err)
	}
}

func TestParseSkips(t *testing.T) {
	got, err := ParseSkips("x", strings.NewReader("# c\nspec [A]\n  no SCTP\n\tin this kernel\n\n/SCTP|Slow/\n    slow\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Spec != "spec [A]" || got[0].Reason != "no SCTP in this kernel" || got[1].Pattern.String() != "SCTP|Slow" || got[1].Reason != "slow" {
		t.Errorf("%+v", got)
	}
	for spec, want := range map[string]bool{"spec [A]": true, "spec [A] more": false, "x SCTP y": true, "": false} {
		if matches := got[0].matches(spec) || got[1].matches(spec); matches != want {
			t.Errorf("%q matches: %v", spec, matches)
		}
	}
	for text, want := range map[string]string{
		"a\nb\n reason\n": "x:1: no reason",
		"a\n":             "x:1: no reason",
		" reason\n":       "x:1: a reason without a spec",
		"/(/\n reason\n":  "x:1: error parsing regexp",
	} {
		if _, err := ParseSkips("x", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

func FuzzParseSkips(f *testing.F) {
	f.Add("spec\n reason\n/re/\n\treason\n")
	f.Add("//\n r\n/ /\n r")
	f.Fuzz(func(t *testing.T, text string) {
		skips, err := ParseSkips("x", strings.NewReader(text))
		if err != nil {
			return
		}
		for _, s := range skips {
			if s.Reason == "" || (s.Spec == "") == (s.Pattern == nil) {
				t.Errorf("%q gives %+v", text, s)
			}
		}
	})
}

func TestParseSpecs(t *testing.T) {
	got, err := ParseSpecs("The following spec names can be used with 'ginkgo run --focus/skip':\n" +
		"    k8s.io/kubernetes@v1.36.3/test/e2e/network/dns.go:45: [sig-network] DNS should: do\n" +
		"    k8s.io/kubernetes@v1.36.3/test/e2e/apps/rc.go:4: [sig-apps] other\n\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"[sig-network] DNS should: do", "[sig-apps] other"}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := ParseSpecs("flag provided but not defined"); err == nil {
		t.Error("no error for no specs")
	}
}

func TestSelect(t *testing.T) {
	all := []string{"c slow", "a fast", "b slow", "d"}
	re := regexp.MustCompile
	list := func(specs ...string) []List { return []List{{Name: "l.txt", Specs: specs}} }
	skips := []Skip{{Spec: "b slow", Reason: "no kernel"}}
	for _, tt := range []struct {
		name        string
		lists       []List
		focus, skip *regexp.Regexp
		want        []string
		skipped     []Skipped
		err         string
	}{
		{name: "all", want: []string{"a fast", "c slow", "d"}, skipped: []Skipped{{"b slow", "no kernel"}}},
		{name: "list", lists: list("d", "a fast"), want: []string{"a fast", "d"}},
		{name: "two lists, with one spec in both", lists: append(list("d"), list("d", "b slow")...), want: []string{"d"}, skipped: []Skipped{{"b slow", "no kernel"}}},
		{name: "focus", focus: re("slow"), want: []string{"c slow"}, skipped: []Skipped{{"b slow", "no kernel"}}},
		{name: "focus in a list", lists: list("d", "c slow"), focus: re("slow"), want: []string{"c slow"}},
		{name: "skip", skip: re("^[abc]"), want: []string{"d"}},
		{name: "unknown", lists: list("e", "d"), err: `l.txt: the suite has no spec "e"`},
		{name: "nothing", focus: re("nothing"), err: "no spec is left"},
		{name: "all left out", lists: list("b slow"), err: "no spec is left"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Select(all, tt.lists, tt.focus, tt.skip, skips)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Selection{tt.want, tt.skipped}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFocusPattern(t *testing.T) {
	re := regexp.MustCompile(focusPattern([]string{"[sig-network] DNS (a|b)", "c"}))
	for text, want := range map[string]bool{
		"Kubernetes e2e suite [sig-network] DNS (a|b)":      true,
		"Kubernetes e2e suite c":                            true,
		"Kubernetes e2e suite [sig-network] DNS (a|b) more": false,
		"Kubernetes e2e suite [sig-network] DNS a":          false,
	} {
		if re.MatchString(text) != want {
			t.Errorf("%q matches: %v", text, !want)
		}
	}
}

func TestParseOutcome(t *testing.T) {
	for line, want := range map[string]string{
		"• [12.345 seconds]\n":                      "passed",
		"• [FAILED] [300.1 seconds]\n":              "failed",
		"• [TIMEDOUT] [1 seconds]\n":                "timedout",
		"S [SKIPPED] [0.015 seconds]\n":             "skipped",
		"[SynchronizedBeforeSuite] [5.1 seconds]\n": "",
		"  STEP: wait [5 seconds]\n":                "",
		"• something else\n":                        "",
		"":                                          "",
	} {
		if got := parseOutcome(line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

const junit = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="6" disabled="0" errors="0" failures="1" time="99">
  <testsuite name="Kubernetes e2e suite" package="/" tests="6" skipped="2" errors="1" failures="1" time="99.5" timestamp="2026-01-01T00:00:00">
    <properties><property name="SuiteSucceeded" value="false"></property></properties>
    <testcase name="[SynchronizedBeforeSuite]" classname="Kubernetes e2e suite" status="passed" time="1"></testcase>
    <testcase name="[It] passes" classname="Kubernetes e2e suite" status="passed" time="2"></testcase>
    <testcase name="[It] fails" classname="Kubernetes e2e suite" status="failed" time="3">
      <failure type="failed">[FAILED] &#xA;expected this&#xA;In [It] at: x.go:1</failure>
      <system-err>log &lt;of&gt; it</system-err>
    </testcase>
    <testcase name="[It] panics" classname="Kubernetes e2e suite" status="panicked" time="3"><error message="boom" type="panicked"></error></testcase>
    <testcase name="[It] skips itself" classname="Kubernetes e2e suite" status="skipped" time="0.1"><skipped message="skipped - only for gce"></skipped></testcase>
    <testcase name="[It] was not asked for" classname="Kubernetes e2e suite" status="skipped" time="0"><skipped message="skipped"></skipped></testcase>
  </testsuite>
</testsuites>`

func TestSummary(t *testing.T) {
	report, err := readJUnit(strings.NewReader(junit))
	if err != nil {
		t.Fatal(err)
	}
	selection := Selection{
		Specs:   []string{"fails", "is lost", "panics", "passes", "skips itself"},
		Skipped: []Skipped{{"needs SCTP", "no SCTP"}},
	}
	want := Summary{
		Passed:  []string{"passes"},
		Failed:  []Failure{{"fails", "expected this"}, {"panics", "boom"}},
		NotRun:  []Failure{{"skips itself", "skipped - only for gce"}, {"is lost", "not in the report"}},
		Skipped: selection.Skipped,
		Time:    99500 * time.Millisecond,
	}
	got := summarize(selection, report)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got.OK() {
		t.Error("a run with failures is good")
	}
	if s := summarize(Selection{Specs: []string{"passes"}}, report); !s.OK() {
		t.Errorf("a run whose specs passed is not good: %+v", s)
	}

	// What is written for others has the same outcome, and nothing that was not asked for.
	var written strings.Builder
	if err := report.only(selection.Specs).write(&written); err != nil {
		t.Fatal(err)
	}
	again, err := readJUnit(strings.NewReader(written.String()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, summarize(selection, again)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if text := written.String(); strings.Contains(text, "not asked for") || !strings.Contains(text, "log &lt;of&gt; it") ||
		!strings.Contains(text, `tests="4" skipped="1" errors="1" failures="1"`) {
		t.Errorf("written:\n%s", text)
	}

	var words strings.Builder
	if err := got.Write(&words); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Failed:\n  fails\n      expected this\n", "only for gce", "no SCTP", "1 passed, 2 failed, 2 did not run, 1 left out"} {
		if !strings.Contains(words.String(), want) {
			t.Errorf("%q is not in the summary:\n%s", want, words.String())
		}
	}
}

// A failed BeforeSuite is a failure, although it is no spec: no spec has run then.
func TestSummaryOfFailedSetup(t *testing.T) {
	report, err := readJUnit(strings.NewReader(`<testsuites><testsuite name="s" time="1">
		<testcase name="[SynchronizedBeforeSuite]" status="failed" time="1"><failure message="nodes are not ready" type="failed"></failure></testcase>
		<testcase name="[It] a" status="skipped"><skipped message="skipped"></skipped></testcase>
	</testsuite></testsuites>`))
	if err != nil {
		t.Fatal(err)
	}
	s := summarize(Selection{Specs: []string{"a"}}, report)
	if len(s.Failed) != 1 || s.Failed[0].Message != "nodes are not ready" || len(s.NotRun) != 1 {
		t.Errorf("%+v", s)
	}
}
