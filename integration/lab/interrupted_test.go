package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// upOnly, in the environment, makes the test binary bring up the lab with these
// options and do nothing else, so that a test can kill it.
const upOnly = "SEAMARK_LAB_TEST_UP"

func TestMain(m *testing.M) {
	if text := os.Getenv(upOnly); text != "" {
		var o Options
		err := json.Unmarshal([]byte(text), &o)
		if err == nil {
			o.Progress = os.Stderr
			_, err = Up(context.Background(), o)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// killPoint is a moment in the making of a lab.
type killPoint struct {
	name    string
	options func(name string) Options
	reached func(lab, said string) bool // from what up has said so far
}

// TestInterruptedUp kills up at several points and expects down to remove what
// there is, and a second up to work.
func TestInterruptedUp(t *testing.T) {
	name := testLab(t, "c")
	plain := func(name string) Options { return bare(name, nil) }
	withSeamark := func(name string) Options {
		o := DefaultOptions()
		o.Name, o.Nodes = name, 1
		return o
	}
	says := func(what string) func(string, string) bool {
		return func(_, said string) bool { return strings.Contains(said, what) }
	}
	exists := func(host string) func(string, string) bool {
		return func(lab, _ string) bool {
			_, err := os.Stat(filepath.Join(netnsDir, lab+"-"+host))
			return err == nil
		}
	}
	for _, at := range []killPoint{
		{"before there is anything", plain, says("lab " + name + ": ")},
		{"at the first namespace", plain, exists("lan")},
		{"while hosts are made", plain, exists("node1")},
		{"when all hosts are made", plain, says("hosts are on the network")},
		{"when the control plane is up", plain, says("the control plane is up")},
		{"when the nodes are Ready", plain, says("nodes are Ready")},
		{"while pods start", withSeamark, says("Seamark is applied")},
	} {
		t.Run(at.name, func(t *testing.T) {
			killUpAt(t, name, at)
			traces := traceOf(t, name)
			t.Logf("%d processes are left", len(traces.processes))
			if err := Down(t.Context(), name, t.Output()); err != nil {
				t.Fatal(err)
			}
			traces.mustBeGone(t)
		})
	}
	if err := upUseDown(t, name, nil); err != nil {
		t.Error(err)
	}
}

// killUpAt starts up in another process and kills it, without a chance to clean
// up, as soon as it has come to a point.
func killUpAt(t *testing.T, name string, at killPoint) {
	t.Helper()
	options, err := json.Marshal(at.options(name))
	if err != nil {
		t.Fatal(err)
	}
	up := exec.CommandContext(t.Context(), os.Args[0])
	up.Env = append(os.Environ(), upOnly+"="+string(options))
	stderr, err := up.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var said strings.Builder
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			mu.Lock()
			fmt.Fprintln(&said, lines.Text())
			mu.Unlock()
		}
	}()
	reached := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return at.reached(name, said.String())
	}
	for !reached() {
		select {
		case <-time.After(time.Millisecond):
			continue
		case <-ended:
		}
		break
	}
	_ = up.Process.Kill()
	<-ended
	_ = up.Wait()
	t.Log(said.String())
	if !reached() {
		t.Error("up never came to this point")
	}
}
