package oci

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// Recipe is a Dockerfile that needs no container engine: one stage FROM scratch that only copies files and sets the
// image's configuration.
type Recipe struct {
	Copies []Copy
	Config v1.Config
}

// Copy is one COPY instruction.
type Copy struct {
	Line     int
	Sources  []string // relative to the context, slash-separated, may be patterns of path.Match
	Dest     string   // absolute; a trailing slash means a folder
	Mode     fs.FileMode
	UID, GID int
}

// ParseDockerfile reads a Dockerfile of the kind that Recipe describes. Everything that would need a container engine, a
// base image or a shell is an error that names the line and what to write instead. The syntax is that of `docker build`:
// BuildKit's own parser reads it.
func ParseDockerfile(r io.Reader) (*Recipe, error) {
	ast, err := parser.Parse(r)
	if err != nil {
		return nil, err
	}
	stages, args, err := instructions.Parse(ast.AST, nil)
	if err != nil {
		return nil, err
	}
	if len(args) > 0 {
		return nil, fmt.Errorf("line %d: ARG is not supported here: write the value out, or use ENV", line(args[0].Location()))
	}
	if len(stages) != 1 {
		return nil, fmt.Errorf("%d stages: only one stage, FROM scratch, is supported: build the programs before, and COPY them", len(stages))
	}
	stage := stages[0]
	if stage.BaseName != "scratch" || stage.Platform != "" {
		return nil, fmt.Errorf("line %d: %s: only FROM scratch is supported: there is no registry to take a base image from", line(stage.Location), stage.SourceCode)
	}
	recipe := &Recipe{}
	var problems []error
	for _, command := range stage.Commands {
		if err := recipe.add(command, ast.EscapeToken); err != nil {
			problems = append(problems, fmt.Errorf("line %d: %w", line(command.Location()), err))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return recipe, nil
}

func line(location []parser.Range) int {
	if len(location) == 0 {
		return 0
	}
	return location[0].Start.Line
}

func (r *Recipe) add(command instructions.Command, escape rune) error {
	lex := shell.NewLex(escape)
	expand := func(word string) (string, error) {
		expanded, _, err := lex.ProcessWord(word, shell.EnvsFromSlice(r.Config.Env))
		return expanded, err
	}
	if c, ok := command.(instructions.SupportsSingleWordExpansion); ok {
		if err := c.Expand(expand); err != nil {
			return err
		}
	}
	switch c := command.(type) {
	case *instructions.CopyCommand:
		return r.addCopy(c)
	case *instructions.UserCommand:
		r.Config.User = c.User
	case *instructions.EntrypointCommand:
		if c.PrependShell {
			return errors.New(`ENTRYPOINT needs a shell in this form; write it as a list: ENTRYPOINT ["/program", "argument"]`)
		}
		r.Config.Entrypoint = c.CmdLine
	case *instructions.LabelCommand:
		if r.Config.Labels == nil {
			r.Config.Labels = map[string]string{}
		}
		for _, label := range c.Labels {
			r.Config.Labels[label.Key] = label.Value
		}
	case *instructions.EnvCommand:
		for _, env := range c.Env {
			r.Config.Env = slices.DeleteFunc(r.Config.Env, func(old string) bool { return strings.HasPrefix(old, env.Key+"=") })
			r.Config.Env = append(r.Config.Env, env.String())
		}
	case *instructions.ExposeCommand:
		return r.expose(c, expand)
	default:
		return fmt.Errorf("%s is not supported: only COPY, ENTRYPOINT, ENV, EXPOSE, LABEL and USER are", strings.ToUpper(command.Name()))
	}
	return nil
}

func (r *Recipe) expose(c *instructions.ExposeCommand, expand instructions.SingleWordExpander) error {
	for _, word := range c.Ports {
		port, err := expand(word)
		if err != nil {
			return err
		}
		number, protocol, ok := strings.Cut(port, "/")
		if !ok {
			protocol = "tcp"
		}
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n == 0 || !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
			return fmt.Errorf("EXPOSE %s: want a port from 1 to 65535, or port/tcp, port/udp, port/sctp", port)
		}
		if r.Config.ExposedPorts == nil {
			r.Config.ExposedPorts = map[string]struct{}{}
		}
		r.Config.ExposedPorts[fmt.Sprintf("%d/%s", n, protocol)] = struct{}{}
	}
	return nil
}

func (r *Recipe) addCopy(c *instructions.CopyCommand) error {
	if c.From != "" || len(c.SourceContents) > 0 || len(c.ExcludePatterns) > 0 || c.Parents {
		return errors.New("COPY: of its options only --chmod, --chown and --link are supported, and no inline files")
	}
	if !path.IsAbs(c.DestPath) {
		return fmt.Errorf("COPY to %q: write the destination as an absolute path", c.DestPath)
	}
	// --link makes no difference: each COPY is a layer of its own anyway.
	cp := Copy{Line: line(c.Location()), Sources: c.SourcePaths, Dest: c.DestPath}
	if c.Chmod != "" {
		mode, err := strconv.ParseUint(c.Chmod, 8, 12)
		if err != nil || mode > 0o777 {
			return fmt.Errorf("COPY --chmod=%s: want an octal mode from 0 to 777", c.Chmod)
		}
		cp.Mode = fs.FileMode(mode)
	}
	if c.Chown != "" {
		uid, gid, ok := strings.Cut(c.Chown, ":")
		if !ok {
			gid = uid
		}
		u, uerr := strconv.ParseUint(uid, 10, 31)
		g, gerr := strconv.ParseUint(gid, 10, 31)
		if uerr != nil || gerr != nil {
			return fmt.Errorf("COPY --chown=%s: want numbers, UID:GID: scratch has no /etc/passwd", c.Chown)
		}
		cp.UID, cp.GID = int(u), int(g)
	}
	r.Copies = append(r.Copies, cp)
	return nil
}

// Image runs the recipe on the files of context.
//
// Modes are 0755 for folders and for files that the owner may execute, 0644 for other files, unless COPY says --chmod:
// the image must not depend on the umask of who checked the files out. Nothing outside of context can be copied.
func (r *Recipe) Image(context string) (v1.Image, error) {
	root, err := os.OpenRoot(context)
	if err != nil {
		return nil, fmt.Errorf("build context: %w", err)
	}
	defer root.Close()
	var layers []v1.Layer
	for _, cp := range r.Copies {
		files, err := cp.files(root)
		if err != nil {
			return nil, fmt.Errorf("line %d: COPY: %w", cp.Line, err)
		}
		layer, err := FileLayer(files...)
		if err != nil {
			return nil, fmt.Errorf("line %d: COPY: %w", cp.Line, err)
		}
		layers = append(layers, layer)
	}
	return NewImage(r.Config, layers...)
}

// files finds what the COPY copies. As with docker, the content of a source folder is copied, not the folder itself.
func (cp Copy) files(root *os.Root) ([]File, error) {
	var sources []string
	for _, pattern := range cp.Sources {
		matches, err := fs.Glob(root.FS(), cmp.Or(entryName(pattern), "."))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", pattern, err)
		}
		if len(matches) == 0 {
			return nil, fmt.Errorf("%s: no such file in the build context %s", pattern, root.Name())
		}
		sources = append(sources, matches...)
	}
	intoFolder := strings.HasSuffix(cp.Dest, "/")
	if len(sources) > 1 && !intoFolder {
		return nil, fmt.Errorf("%d files to %s: write the destination with a slash at its end", len(sources), cp.Dest)
	}
	var files []File
	for _, source := range sources {
		info, err := fs.Stat(root.FS(), source)
		if err != nil {
			return nil, err
		}
		dest := cp.Dest
		if intoFolder && !info.IsDir() {
			dest = path.Join(dest, path.Base(source))
		}
		err = fs.WalkDir(root.FS(), source, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			f, err := cp.file(root, p, d)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(source, p)
			if err != nil {
				return err
			}
			if f.Path = path.Join(dest, filepath.ToSlash(rel)); entryName(f.Path) != "" {
				files = append(files, f)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

func (cp Copy) file(root *os.Root, p string, d fs.DirEntry) (File, error) {
	info, err := d.Info()
	if err != nil {
		return File{}, err
	}
	f := File{Source: filepath.Join(root.Name(), filepath.FromSlash(p)), UID: cp.UID, GID: cp.GID}
	switch info.Mode().Type() {
	case fs.ModeDir:
		f.Source, f.Mode = "", fs.ModeDir|cmp.Or(cp.Mode, 0o755)
	case fs.ModeSymlink:
		f.Source = ""
		f.Link, err = root.Readlink(filepath.FromSlash(p))
	case 0:
		f.Mode = 0o644
		if info.Mode()&0o100 != 0 {
			f.Mode = 0o755
		}
		f.Mode = cmp.Or(cp.Mode, f.Mode)
	default:
		err = fmt.Errorf("%s is neither a file nor a folder nor a symbolic link", p)
	}
	return f, err
}
