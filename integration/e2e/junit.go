package e2e

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// The parts of a JUnit report that ginkgo writes and that we read; the rest is kept as it is.
type (
	junitReport struct {
		XMLName xml.Name     `xml:"testsuites"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name      string      `xml:"name,attr"`
		Tests     int         `xml:"tests,attr"`
		Skipped   int         `xml:"skipped,attr"`
		Errors    int         `xml:"errors,attr"`
		Failures  int         `xml:"failures,attr"`
		Time      float64     `xml:"time,attr"`
		Timestamp string      `xml:"timestamp,attr"`
		Cases     []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name      string        `xml:"name,attr"`
		ClassName string        `xml:"classname,attr"`
		Status    string        `xml:"status,attr"`
		Time      float64       `xml:"time,attr"`
		Skipped   *junitMessage `xml:"skipped"`
		Error     *junitMessage `xml:"error"`
		Failure   *junitMessage `xml:"failure"`
		SystemOut string        `xml:"system-out,omitempty"`
		SystemErr string        `xml:"system-err,omitempty"`
	}
	junitMessage struct {
		Message string `xml:"message,attr,omitempty"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
)

// specPrefix is what ginkgo writes before the name of a spec; other nodes, such as BeforeSuite, have other prefixes.
const specPrefix = "[It] "

func readJUnit(r io.Reader) (junitReport, error) {
	var report junitReport
	if err := xml.NewDecoder(r).Decode(&report); err != nil {
		return report, fmt.Errorf("reading the JUnit report: %w", err)
	}
	return report, nil
}

// only returns the report without the specs that were not asked for (ginkgo lists all of the suite), and with counts to
// match.
func (r junitReport) only(specs []string) junitReport {
	pruned := junitReport{}
	for _, suite := range r.Suites {
		cases := suite.Cases
		suite.Cases = nil
		suite.Tests, suite.Skipped, suite.Errors, suite.Failures = 0, 0, 0, 0
		for _, c := range cases {
			spec, isSpec := strings.CutPrefix(c.Name, specPrefix)
			if isSpec && !slices.Contains(specs, spec) {
				continue
			}
			if !isSpec && c.Failure == nil && c.Error == nil {
				continue
			}
			suite.Cases = append(suite.Cases, c)
			suite.Tests++
			switch {
			case c.Skipped != nil:
				suite.Skipped++
			case c.Error != nil:
				suite.Errors++
			case c.Failure != nil:
				suite.Failures++
			}
		}
		pruned.Suites = append(pruned.Suites, suite)
	}
	return pruned
}

func (r junitReport) write(w io.Writer) error {
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", "  ")
	return encoder.Encode(r)
}

// Summary is the outcome of a run.
type Summary struct {
	Passed  []string
	Failed  []Failure
	NotRun  []Failure // specs that should have run: those that skipped themselves, with their words, and those lost
	Skipped []Skipped // by skip.txt
	Time    time.Duration
}

// Failure is a spec, or a part of the suite such as its BeforeSuite, with what it said.
type Failure struct{ Spec, Message string }

// OK reports whether everything that should have run did run and passed.
func (s Summary) OK() bool { return len(s.Failed) == 0 && len(s.NotRun) == 0 }

// summarize compares what was selected with what the report says.
func summarize(selection Selection, report junitReport) Summary {
	s := Summary{Skipped: selection.Skipped}
	seen := map[string]bool{}
	for _, suite := range report.Suites {
		s.Time += time.Duration(suite.Time * float64(time.Second))
		for _, c := range suite.Cases {
			spec, isSpec := strings.CutPrefix(c.Name, specPrefix)
			if isSpec && !slices.Contains(selection.Specs, spec) {
				continue
			}
			switch {
			case c.Failure != nil:
				s.Failed = append(s.Failed, Failure{spec, c.Failure.words()})
			case c.Error != nil:
				s.Failed = append(s.Failed, Failure{spec, c.Error.words()})
			case !isSpec:
				continue
			case c.Skipped != nil:
				s.NotRun = append(s.NotRun, Failure{spec, c.Skipped.words()})
			default:
				s.Passed = append(s.Passed, spec)
			}
			seen[spec] = true
		}
	}
	for _, spec := range selection.Specs {
		if !seen[spec] {
			s.NotRun = append(s.NotRun, Failure{spec, "not in the report"})
		}
	}
	return s
}

// words returns what is worth a line of the message: its first line that says something.
func (m junitMessage) words() string {
	for line := range strings.Lines(m.Message + "\n" + m.Text) {
		if line = strings.TrimSpace(line); line != "" && line != "[FAILED]" {
			return line
		}
	}
	return "no message"
}

// Write writes the summary for people.
func (s Summary) Write(w io.Writer) error {
	var b strings.Builder
	section := func(title string, specs []Failure) {
		if len(specs) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n%s:\n", title)
		for _, f := range specs {
			fmt.Fprintf(&b, "  %s\n      %s\n", f.Spec, f.Message)
		}
	}
	section("Failed", s.Failed)
	section("Should have run, and did not", s.NotRun)
	if len(s.Skipped) > 0 {
		b.WriteString("\nLeft out by skip.txt:\n")
		for _, skip := range s.Skipped {
			fmt.Fprintf(&b, "  %s\n      %s\n", skip.Spec, skip.Reason)
		}
	}
	fmt.Fprintf(&b, "\n%d passed, %d failed, %d did not run, %d left out, in %s\n",
		len(s.Passed), len(s.Failed), len(s.NotRun), len(s.Skipped), s.Time.Round(time.Second))
	_, err := io.WriteString(w, b.String())
	return err
}
