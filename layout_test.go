package seamark

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/seamark-io/seamark"

// rule forbids imports: a package whose path (below the module) begins with one of from must not import, in its own
// non-test files, what begins with one of notTo (a path below the module if it begins with '/', else an outside one),
// except what begins with one of except.
type rule struct {
	from, notTo, except []string
	because             string
}

var rules = []rule{
	{
		from:    []string{"/cluster", "/provider/ipam", "/speaker/plan", "/speaker/elect", "/speaker/bfd/packet", "/speaker/bfd/fsm", "/proxy/ruleset", "/dns/zone"},
		notTo:   []string{"k8s.io/", "log", "time/tzdata", "os", "net/http", "github.com/", "golang.org/", "sigs.k8s.io/"},
		except:  []string{module + "/cluster", "github.com/miekg/dns"},
		because: "it is pure: the same input gives the same output, so it can be tested with tables and reasoned about; clients, logs and sockets belong to the shells around it",
	},
	{
		from:    []string{"/provider"},
		notTo:   []string{"/speaker", "/proxy", "/dns"},
		because: "parts meet only in cluster and in cmd: each can be switched off, read and changed alone",
	},
	{from: []string{"/speaker"}, notTo: []string{"/provider", "/proxy", "/dns"}, because: "parts meet only in cluster and in cmd"},
	{from: []string{"/proxy"}, notTo: []string{"/provider", "/speaker", "/dns"}, because: "parts meet only in cluster and in cmd"},
	{from: []string{"/dns"}, notTo: []string{"/provider", "/speaker", "/proxy"}, because: "parts meet only in cluster and in cmd"},
	{from: []string{"/cluster", "/api"}, notTo: []string{"/provider", "/speaker", "/proxy", "/dns", "/cmd"}, because: "the vocabulary knows none of its users"},
	{from: []string{"/"}, notTo: []string{"k8s.io/kubernetes"}, because: "k8s.io/kubernetes is not a library; the integration module alone may use it"},
	{from: []string{"/"}, notTo: []string{"github.com/osrg/gobgp"}, because: "gobgp's types stay behind speaker/bgp"},
}

// exempt lists the one place that may wrap a library which a rule for all forbids, and the shells below a pure path.
var exempt = map[string][]string{
	"/speaker/bgp":       {"github.com/osrg/gobgp"},
	"/cluster/watch":     {"k8s.io/", "log", "github.com/"},
	"/cluster/preflight": {"k8s.io/", "log", "github.com/"},
}

type pkg struct {
	ImportPath string
	Doc        string
	Imports    []string
	GoFiles    []string
	Dir        string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Doc,GoFiles,Dir", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var pkgs []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// TestImportDirections holds the layout of docs/design.md against the code.
func TestImportDirections(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		for _, r := range rules {
			if !startsWithAny(path+"/", r.from) {
				continue
			}
			for _, imp := range p.Imports {
				short := strings.TrimPrefix(imp, module)
				if startsWithAny(short, r.notTo) && !startsWithAny(imp, r.except) && !startsWithAny(imp, exempt[path]) {
					t.Errorf("%s must not import %s: %s", p.ImportPath, imp, r.because)
				}
			}
		}
	}
}

// TestEveryPackageSaysWhatItIs asks for a package comment, in doc.go but for commands.
func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		if p.Doc == "" {
			t.Errorf("%s has no package comment: say what it gives, its contract and its place in the flow", p.ImportPath)
		}
		if _, err := os.Stat(filepath.Join(p.Dir, "doc.go")); err != nil && !strings.Contains(p.ImportPath, "/cmd/") {
			t.Errorf("%s has no doc.go", p.ImportPath)
		}
	}
}

func startsWithAny(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}
