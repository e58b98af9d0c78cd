package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/seamark-io/seamark/integration/artifacts"
	"github.com/seamark-io/seamark/integration/lab"
)

// Suite is the upstream test suite, built.
type Suite struct {
	cache *artifacts.Cache
	test  string // e2e.test
}

// imageName is of what the specs start, in [artifacts.Cache].
const imageName = "e2e"

// Needs returns the programs and images of [artifacts.Cache] that a [Suite] takes, as Prepare wants them.
func Needs() (programs, images []string) { return []string{"e2e.test", "ginkgo"}, []string{imageName} }

// OpenSuite returns the suite of the pinned Kubernetes version, building it if absent (about four minutes).
func OpenSuite(ctx context.Context, cache *artifacts.Cache) (*Suite, error) {
	test, err := cache.Binary(ctx, "e2e.test")
	if err != nil {
		return nil, err
	}
	return &Suite{cache: cache, test: test}, nil
}

// Specs returns the full names of all specs.
func (s *Suite) Specs(ctx context.Context) ([]string, error) {
	out, err := exec.CommandContext(ctx, s.test, "--list-tests").Output()
	if err != nil {
		return nil, fmt.Errorf("e2e.test --list-tests: %w", err)
	}
	return ParseSpecs(string(out))
}

// Config says how to run specs.
type Config struct {
	Lab       *lab.Lab
	Selection Selection
	Procs     int           // specs at a time
	Timeout   time.Duration // for all; what runs by then is interrupted and has failed
	Dir       string        // absolute, visible to hosts; gets junit.xml and e2e.log, where the specs' own output is
	Log       io.Writer     // progress
}

// Run runs the specs on the lab's host "remote", after giving the nodes the images that the specs start, unless the lab was
// made with them. Behind the router
// it is a client from elsewhere: a spec takes the source address for lost when it lies in the nodes' own network. An error
// means that there is no result; failed specs are in the Summary.
func (s *Suite) Run(ctx context.Context, c Config) (Summary, error) {
	ginkgo, err := s.cache.Binary(ctx, "ginkgo")
	if err != nil {
		return Summary{}, err
	}
	if err := s.loadImages(ctx, c); err != nil {
		return Summary{}, err
	}
	if c.Lab.Options().LB == lab.Seamark {
		router := c.Lab.Plan().Host("router").Addrs()[0]
		if err := c.Lab.Apply(ctx, []byte(pool(c.Lab.Options().Families, router))); err != nil {
			return Summary{}, err
		}
	}
	client, err := c.Lab.Host("remote")
	if err != nil {
		return Summary{}, err
	}
	// The suite's own report lists each of its thousands of specs: it goes to a folder of its own.
	reports, err := os.MkdirTemp(c.Dir, ".report-")
	if err != nil {
		return Summary{}, err
	}
	defer func() { _ = os.RemoveAll(reports) }()
	cmd := client.Command(ctx, append([]string{ginkgo}, s.arguments(c, reports)...)...)
	runErr := c.watch(cmd)
	if ctx.Err() != nil {
		return Summary{}, ctx.Err()
	}
	report, err := openReport(filepath.Join(reports, "junit_01.xml"))
	if err != nil {
		return Summary{}, errors.Join(fmt.Errorf("the suite did not finish; see %s", c.logFile()), runErr, err)
	}
	if err := writeReport(filepath.Join(c.Dir, "junit.xml"), report.only(c.Selection.Specs)); err != nil {
		return Summary{}, err
	}
	return summarize(c.Selection, report), nil
}

func (s *Suite) loadImages(ctx context.Context, c Config) error {
	if slices.Contains(c.Lab.Options().Images, imageName) {
		return nil
	}
	images, err := s.cache.Image(ctx, imageName)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.Log, "loading the test images on all nodes")
	return c.Lab.Load(ctx, images)
}

// seed makes the order of specs, which is random to ginkgo, the same in each run: one where the two specs of "service endpoints using
// hostNetwork" are far apart. Both want the same ports of all nodes, and take four minutes: the second waits for the ports
// ("didn't have free ports"), and fails after five. By the durations of one run they meet with 37 of 60 seeds when eight specs run at a
// time, and with 40 when ten do.
const seed = 60

func (s *Suite) arguments(c Config, reports string) []string {
	return []string{
		"run", "--no-color", "-v", "--silence-skips", fmt.Sprintf("--procs=%d", c.Procs), fmt.Sprintf("--seed=%d", seed), "--timeout=" + c.Timeout.String(),
		"--focus=" + focusPattern(c.Selection.Specs), s.test, "--",
		// No cloud provider: specs that ask one for machines or addresses skip themselves.
		"--provider=skeleton", "--node-os-distro=debian", fmt.Sprintf("--num-nodes=%d", c.Lab.Options().Nodes),
		"--report-dir=" + reports, "--disable-log-dump",
	}
}

// labelsStart is where ginkgo adds a spec's labels to its name; all specs that we run have this as their first label.
const labelsStart = " [sig-network"

func (c Config) logFile() string { return filepath.Join(c.Dir, "e2e.log") }

// watch runs the suite, keeps its output in the log file and reports each finished spec.
func (c Config) watch(cmd *exec.Cmd) error {
	logFile, err := os.Create(c.logFile())
	if err != nil {
		return err
	}
	defer logFile.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	// ginkgo stops its processes, and the specs clean up, when it is asked to end rather than killed.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	start := time.Now()
	fmt.Fprintf(c.Log, "running %d specs, %d at a time; output in %s\n", len(c.Selection.Specs), c.Procs, c.logFile())
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the suite: %w", err)
	}
	done := 0
	var outcome string
	for lines := bufio.NewReader(io.TeeReader(stdout, logFile)); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // the end, or what Wait knows better
		}
		// A finished spec is reported as "• [12.345 seconds]" or "• [FAILED] [1.2 seconds]" or "S [SKIPPED] [0.1 seconds]",
		// and its name on the next line.
		if name := strings.TrimSpace(line); outcome != "" {
			done++
			name, _, _ = strings.Cut(name, labelsStart)
			fmt.Fprintf(c.Log, "%3d/%d %6s  %s  %s\n", done, len(c.Selection.Specs), time.Since(start).Round(time.Second), outcome, name)
			outcome = ""
			continue
		}
		outcome = parseOutcome(line)
	}
	return cmd.Wait()
}

// parseOutcome returns the outcome of a spec if the line is the head of its report, or "".
func parseOutcome(line string) string {
	line = strings.TrimRight(line, "\n")
	rest, isSpec := strings.CutPrefix(line, "• ")
	if !isSpec {
		rest, isSpec = strings.CutPrefix(line, "S ")
	}
	if !isSpec || !strings.HasPrefix(rest, "[") || !strings.HasSuffix(rest, " seconds]") {
		return ""
	}
	state, _, found := strings.Cut(strings.TrimPrefix(rest, "["), "] [")
	if !found {
		return "passed"
	}
	return strings.ToLower(state)
}

func openReport(file string) (junitReport, error) {
	f, err := os.Open(file)
	if err != nil {
		return junitReport{}, err
	}
	defer f.Close()
	return readJUnit(f)
}

func writeReport(file string, report junitReport) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(report.write(f), f.Close())
}
