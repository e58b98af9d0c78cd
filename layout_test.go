package seamark

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/seamark-io/seamark"

// pure lists the packages that give the same output for the same input. Each may not be there yet.
var pure = []string{
	"/cluster", "/cluster/pace",
	"/provider/ipam",
	"/speaker/plan", "/speaker/elect",
	"/speaker/l2/packet", "/speaker/l2/respond",
	"/speaker/liveness", "/speaker/liveness/wire",
	"/speaker/bfd/packet", "/speaker/bfd/fsm", "/speaker/bfd/session",
	"/proxy/ruleset",
	"/dns/zone",
}

const becausePure = "it is pure: the same input gives the same output, so it can be tested with tables and reasoned about; clients, clocks, logs and sockets belong to the shells around it"

// impure lists the packages of the standard library that a pure package must not import, with those below them.
var impure = []string{"context", "crypto/rand", "database", "expvar", "io/ioutil", "log", "net", "os", "plugin", "runtime", "syscall", "testing", "time/tzdata"}

// pureDespite lists what is pure in spite of what it lies below.
var pureDespite = []string{"net/netip"}

// pureLibraries lists the libraries that pure packages may import, and the packages that may if not all.
var pureLibraries = map[string][]string{
	"go4.org/netipx":       nil,
	"github.com/miekg/dns": {"/dns/zone"},
}

// valuesOf lists packages that a pure package may import for their values, and the functions of theirs that it may not call:
// those that read a clock or the generator of the process.
var valuesOf = map[string]func(function string) bool{
	"time": func(f string) bool {
		return slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}, f)
	},
	"math/rand/v2": func(f string) bool {
		return !slices.Contains([]string{"Rand", "Source", "PCG", "ChaCha8", "Zipf", "New", "NewPCG", "NewChaCha8", "NewZipf"}, f)
	},
}

// owners says which packages may import a library, beside those below them: its types do not leave these.
var owners = []struct {
	library string
	by      []string
	because string
}{
	{"k8s.io/kubernetes", nil, "k8s.io/kubernetes is not a library; the integration module alone may use it"},
	{"k8s.io/cloud-provider", []string{"/provider", "/cmd/seamark-controller"}, "the stock service controller is known to the provider alone, which the command runs in it"},
	{"github.com/osrg/gobgp", []string{"/speaker/bgp"}, "gobgp's types stay behind speaker/bgp"},
	{"github.com/google/nftables", []string{"/proxy/nft", "/speaker/ping", "/dns/notrack"}, "each driver has tables of its own; others say what is wanted, as values"},
	{"github.com/mdlayher/netlink", []string{"/proxy/internal/nfnl", "/speaker/ping"}, "netlink's framing is of the drivers that speak it"},
	{"github.com/mdlayher/packet", []string{"/speaker/l2", "/speaker/liveness/segment"}, "packet sockets are of speaker/l2, and of speaker/liveness/segment for heartbeats"},
	{"github.com/mdlayher/arp", nil, "ARP's bytes are of speaker/l2/packet; this library is for its tests"},
	{"github.com/mdlayher/ndp", []string{"/speaker/discover"}, "NDP's bytes are of speaker/l2/packet; speaker/discover reads router advertisements with this library"},
	{"github.com/vishvananda", []string{"/speaker/link", "/dns/bind", "/proxy/internal/nstest"}, "links and addresses are of speaker/link and dns/bind; others get values"},
	{"github.com/coredns", []string{"/dns"}, "CoreDNS's plugins stay behind the handler chain of dns"},
	{"github.com/miekg/dns", []string{"/dns"}, "messages stay behind the handler chain of dns"},
}

// apart lists parts that must not import others, with all below them.
var apart = []struct {
	part    string
	from    []string
	because string
}{
	{"/provider", []string{"/speaker", "/proxy", "/dns"}, becauseApart},
	{"/speaker", []string{"/provider", "/proxy", "/dns"}, becauseApart},
	{"/proxy", []string{"/provider", "/speaker", "/dns"}, becauseApart},
	{"/dns", []string{"/provider", "/speaker", "/proxy"}, becauseApart},
	{"/cluster", []string{"/provider", "/speaker", "/proxy", "/dns", "/cmd"}, "the vocabulary knows none of its users"},
	{"/api", []string{"/cluster", "/provider", "/speaker", "/proxy", "/dns", "/cmd"}, "the vocabulary knows none of its users"},
}

const becauseApart = "parts meet only in cluster and in cmd: each can be switched off, read and changed alone"

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

// TestImportDirections holds the layout of docs/design.md against the code: of each package, but not of its tests.
func TestImportDirections(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		for _, imp := range p.Imports {
			if because := refused(path, imp); because != "" {
				t.Errorf("%s must not import %s: %s", p.ImportPath, imp, because)
			}
		}
		if slices.Contains(pure, path) {
			for _, file := range p.GoFiles {
				for _, call := range impureCalls(t, filepath.Join(p.Dir, file)) {
					t.Errorf("%s: %s", call, becausePure)
				}
			}
		}
	}
}

// refused returns why a package, by its path below the module, must not import another one; "" if it may.
func refused(path, imp string) string {
	own, internal := strings.CutPrefix(imp, module)
	if internal {
		for _, a := range apart {
			if within(path, a.part) && withinAny(own, a.from) {
				return a.because
			}
		}
	}
	for _, o := range owners {
		if within(imp, o.library) && !withinAny(path, o.by) {
			return o.because
		}
	}
	if slices.Contains(pure, path) && !mayBePure(path, imp) {
		return becausePure
	}
	return ""
}

// mayBePure reports whether a pure package stays pure with an import.
func mayBePure(path, imp string) bool {
	if own, internal := strings.CutPrefix(imp, module); internal {
		return slices.Contains(pure, own)
	}
	for library, by := range pureLibraries {
		if within(imp, library) {
			return by == nil || slices.Contains(by, path)
		}
	}
	first, _, _ := strings.Cut(imp, "/")
	standard := !strings.Contains(first, ".")
	return standard && (withinAny(imp, pureDespite) || imp != "math/rand" && !withinAny(imp, impure))
}

// impureCalls returns where a file uses what it may not of a package that it may import for its values.
func impureCalls(t *testing.T, file string) (found []string) {
	t.Helper()
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{} // in this file → path
	for _, imp := range f.Imports {
		path, _ := strconv.Unquote(imp.Path.Value)
		if valuesOf[path] == nil {
			continue
		}
		name := strings.TrimSuffix(path, "/v2")
		name = name[strings.LastIndexByte(name, '/')+1:]
		if imp.Name != nil {
			name = imp.Name.Name
		}
		names[name] = path
	}
	ast.Inspect(f, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := selector.X.(*ast.Ident); ok && names[x.Name] != "" && valuesOf[names[x.Name]](selector.Sel.Name) {
			found = append(found, fmt.Sprintf("%s: %s.%s", files.Position(n.Pos()), x.Name, selector.Sel.Name))
		}
		return true
	})
	return found
}

// TestRules checks that the rules forbid what they are there to forbid.
func TestRules(t *testing.T) {
	for _, tt := range []struct {
		path, imports string
		refused       bool
	}{
		{"/proxy/ruleset", module + "/cluster", false},
		{"/proxy/ruleset", module + "/cluster/watch", true},
		{"/proxy/ruleset", module + "/proxy/nft", true},
		{"/proxy/ruleset", "net/netip", false},
		{"/proxy/ruleset", "net", true},
		{"/proxy/ruleset", "net/http", true},
		{"/proxy/ruleset", "log/slog", true},
		{"/proxy/ruleset", "os/exec", true},
		{"/proxy/ruleset", "math/bits", false},
		{"/proxy/ruleset", "math/rand", true},
		{"/proxy/ruleset", "crypto/rand", true},
		{"/proxy/ruleset", "go4.org/netipx", false},
		{"/proxy/ruleset", "golang.org/x/sys/unix", true},
		{"/proxy/ruleset", "k8s.io/api/core/v1", true},
		{"/speaker/liveness/wire", "crypto/cipher", false},
		{"/speaker/liveness/wire", module + "/speaker/liveness", false},
		{"/speaker/liveness", module + "/speaker/l2", true},
		{"/speaker/plan", module + "/speaker/elect", false},
		{"/dns/zone", "github.com/miekg/dns", false},
		{"/speaker/plan", "github.com/miekg/dns", true},
		{"/speaker", module + "/proxy/ruleset", true},
		{"/speaker", module + "/speaker/bgp", false},
		{"/speaker/plan", module + "/provider/ipam", true},
		{"/cluster/watch", module + "/api/client", false},
		{"/cluster/watch", module + "/provider", true},
		{"/api/client", module + "/cluster", true},
		{"/speaker/bgp", "github.com/osrg/gobgp/v4/api", false},
		{"/speaker", "github.com/osrg/gobgp/v4/api", true},
		{"/cmd/seamark-node", "github.com/google/nftables", true},
		{"/speaker/link", "github.com/vishvananda/netlink", false},
		{"/speaker/l2", "github.com/vishvananda/netlink", true},
		{"/dns/bind", "github.com/coredns/coredns/request", false},
		{"/provider", "k8s.io/kubernetes/pkg/apis/core", true},
		{"/provider", "k8s.io/kubernetes-sigs", false},
	} {
		if got := refused(tt.path, tt.imports) != ""; got != tt.refused {
			t.Errorf("%s imports %s: refused %t, want %t", tt.path, tt.imports, got, tt.refused)
		}
	}
	file := filepath.Join(t.TempDir(), "x.go")
	text := "package x\nimport (\n\"math/rand/v2\"\nclock \"time\"\n)\nfunc f(r *rand.Rand) clock.Duration { _ = clock.Now(); return clock.Duration(rand.Int64() + r.Int64()) }\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	calls := strings.Join(impureCalls(t, file), " ")
	if !strings.Contains(calls, "clock.Now") || !strings.Contains(calls, "rand.Int64") || strings.Count(calls, file) != 2 {
		t.Errorf("found %s", calls)
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

// within reports whether a path is another one or lies below it.
func within(path, above string) bool {
	return path == above || strings.HasPrefix(path, above+"/")
}

func withinAny(path string, above []string) bool {
	return slices.ContainsFunc(above, func(a string) bool { return within(path, a) })
}
