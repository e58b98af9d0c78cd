package oci

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestParseDockerfile(t *testing.T) {
	const text = `# syntax=docker/dockerfile:1
FROM scratch
LABEL org.opencontainers.image.source="https://example.org/x" licenses=Apache-2.0
ENV HOME=/home PORT=8080
ENV PORT=9090 GREETING="two words"
COPY bin/agent /agent
COPY --chown=65532:65533 --chmod=0700 a.txt \
    b.txt $HOME/
USER 65532:65532
EXPOSE $PORT 53/udp
ENTRYPOINT ["/agent", "--flag"]
`
	want := &Recipe{
		Copies: []Copy{
			{Line: 6, Sources: []string{"bin/agent"}, Dest: "/agent"},
			{Line: 7, Sources: []string{"a.txt", "b.txt"}, Dest: "/home/", Mode: 0o700, UID: 65532, GID: 65533},
		},
		Config: v1.Config{
			Entrypoint:   []string{"/agent", "--flag"},
			Env:          []string{"HOME=/home", "PORT=9090", "GREETING=two words"},
			ExposedPorts: map[string]struct{}{"9090/tcp": {}, "53/udp": {}},
			Labels:       map[string]string{"org.opencontainers.image.source": "https://example.org/x", "licenses": "Apache-2.0"},
			User:         "65532:65532",
		},
	}
	got, err := ParseDockerfile(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The errors name the line and what to change.
func TestParseDockerfileRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "no instructions",
		"COPY a /a":                             "no build stage",
		"FROM debian:12":                        "line 1: FROM debian:12: only FROM scratch",
		"FROM --platform=arm64 scratch":         "only FROM scratch",
		"FROM scratch AS a\nFROM scratch":       "2 stages",
		"ARG X=1\nFROM scratch":                 "line 1: ARG is not supported",
		"FROM scratch\nARG X=1":                 "line 2: ARG is not supported",
		"FROM scratch\nRUN true":                "line 2: RUN is not supported",
		"FROM scratch\nADD a /a":                "line 2: ADD is not supported",
		"FROM scratch\nCMD [\"x\"]":             "line 2: CMD is not supported",
		"FROM scratch\nWORKDIR /x":              "line 2: WORKDIR is not supported",
		"FROM scratch\nENTRYPOINT /a -b":        "line 2: ENTRYPOINT needs a shell",
		"FROM scratch\nCOPY a a":                "absolute path",
		"FROM scratch\nCOPY --from=x a /a":      "line 2: COPY: of its options only",
		"FROM scratch\nCOPY --parents a /":      "of its options only",
		"FROM scratch\nCOPY <<E /a\nx\nE":       "inline files",
		"FROM scratch\nCOPY --chmod=u+x a /a":   "want an octal mode",
		"FROM scratch\nCOPY --chmod=4755 a /a":  "want an octal mode",
		"FROM scratch\nCOPY --chown=nobody a /": "want numbers",
		"FROM scratch\nEXPOSE 0":                "want a port",
		"FROM scratch\nEXPOSE 80-90":            "want a port",
		"FROM scratch\nEXPOSE 80/icmp":          "want a port",
		"FROM scratch\nFOO bar":                 "unknown instruction",
	} {
		_, err := ParseDockerfile(strings.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

func TestRecipeImage(t *testing.T) {
	context := t.TempDir()
	for name, mode := range map[string]fs.FileMode{"bin/agent": 0o700, "conf/a.yaml": 0o600, "conf/deep/b.yaml": 0o666, "readme": 0o644} {
		file := filepath.Join(context, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("<"+name+">"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a.yaml", filepath.Join(context, "conf/link.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(context, "escape")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, copy, want, err string }{
		{name: "file to name", copy: "bin/agent /usr/bin/x", want: "5 usr\n5 usr/bin\n0 755 usr/bin/x <bin/agent>\n"},
		{name: "file into folder", copy: "readme bin/agent /x/", want: "5 x\n0 755 x/agent <bin/agent>\n0 644 x/readme <readme>\n"},
		{name: "content of a folder", copy: "conf /etc", want: "5 etc\n0 644 etc/a.yaml <conf/a.yaml>\n5 etc/deep\n0 644 etc/deep/b.yaml <conf/deep/b.yaml>\n2 etc/link.yaml -> a.yaml\n"},
		{name: "pattern", copy: "conf/*.yaml /", want: "0 644 a.yaml <conf/a.yaml>\n0 644 link.yaml <conf/a.yaml>\n"},
		{name: "mode", copy: "--chmod=440 readme /r", want: "0 440 r <readme>\n"},
		{name: "dots stay inside", copy: "../../readme /r", want: "0 644 r <readme>\n"},
		{name: "absent", copy: "nothing /r", err: "line 2: COPY: nothing: no such file"},
		{name: "several to a name", copy: "readme bin/agent /x", err: "slash at its end"},
		{name: "link out of the context", copy: "escape /x", err: "escape"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			recipe, err := ParseDockerfile(strings.NewReader("FROM scratch\nCOPY " + tt.copy))
			if err != nil {
				t.Fatal(err)
			}
			img, err := recipe.Image(context)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for line := range strings.Lines(listing(t, img)) {
				f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
				switch f[0] {
				case "5":
					got.WriteString("5 " + f[2])
				case "2":
					got.WriteString("2 " + f[2] + " -> " + f[3])
				default:
					got.WriteString(strings.Join([]string{f[0], f[1], f[2], f[4]}, " "))
				}
				got.WriteString("\n")
			}
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// Whatever the text, ParseDockerfile returns a recipe with absolute destinations and plain modes, or an error.
func FuzzParseDockerfile(f *testing.F) {
	for _, seed := range []string{
		"FROM scratch\nCOPY a /a\nENTRYPOINT [\"/a\"]\n",
		"FROM scratch\nENV A=b C=$A\nLABEL x=\"y z\"\nEXPOSE $C\nUSER 1:1\n",
		"# escape=`\nFROM scratch\nCOPY --chmod=755 --chown=1 a `\n /b/\n",
		"FROM scratch\nCOPY [\"a b\", \"/c\"]\n",
		"FROM scratch\nCOPY <<EOF /x\nhi\nEOF\n",
		"FROM scratch\nENV X=${Y:-z}\nEXPOSE 99999\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		recipe, err := ParseDockerfile(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, c := range recipe.Copies {
			if !strings.HasPrefix(c.Dest, "/") || len(c.Sources) == 0 || c.Mode&^fs.ModePerm != 0 || c.UID < 0 || c.GID < 0 {
				t.Errorf("%q gives %+v", text, c)
			}
		}
		for port := range recipe.Config.ExposedPorts {
			if strings.HasPrefix(port, "0/") || !strings.Contains(port, "/") {
				t.Errorf("%q exposes %q", text, port)
			}
		}
	})
}
