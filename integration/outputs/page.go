package outputs

import (
	"context"
	"fmt"
	"strings"
)

// Page is a page of documentation.
type Page struct {
	parts []part
}

// kind says what is to be done with a part of a page.
type kind int

const (
	text     kind = iota // nothing
	script               // run the body
	manifest             // apply the body
	commands             // run the commands, and write their outputs
)

// part is some lines of a page. All but the body stays as it is.
type part struct {
	kind   kind
	line   int // the first one, counted from 1
	before string
	body   []string
	after  string
	run    []string // of commands: each as it stands in the page, without "$ "
}

const (
	firstMark, scriptEnd = "<!-- first", "-->"
	applyMark            = "<!-- apply -->"
	outputsMark          = "<!-- outputs -->"
	fence                = "```"
	prompt               = "$ "
)

// Parse reads a page. An error names the line.
func Parse(page string) (Page, error) {
	lines := strings.SplitAfter(page, "\n")
	var p Page
	for i := 0; i < len(lines); {
		mark := strings.TrimSpace(lines[i])
		switch mark {
		case firstMark:
			end, err := find(lines, i, i+1, scriptEnd)
			if err != nil {
				return p, err
			}
			p.parts = append(p.parts, part{kind: script, line: i + 1, before: lines[i], body: lines[i+1 : end], after: lines[end]})
			i = end + 1
		case applyMark, outputsMark:
			b, next, err := block(lines, i, mark)
			if err != nil {
				return p, err
			}
			p.parts = append(p.parts, b)
			i = next
		default:
			p.parts = append(p.parts, part{kind: text, line: i + 1, before: lines[i]})
			i++
		}
	}
	return p, nil
}

// find returns the first line from a place on that is just what is wanted.
func find(lines []string, mark, from int, want string) (int, error) {
	for i := from; i < len(lines); i++ {
		if strings.TrimSpace(lines[i]) == want {
			return i, nil
		}
	}
	return 0, fmt.Errorf("line %d: there is no %q after it", mark+1, want)
}

// block reads the block between fences behind a mark, and returns the number of the line after it.
func block(lines []string, mark int, what string) (part, int, error) {
	open := mark + 1
	if open >= len(lines) || !strings.HasPrefix(lines[open], fence) {
		return part{}, 0, fmt.Errorf("line %d: %s stands before no block", mark+1, what)
	}
	end, err := find(lines, mark, open+1, fence)
	if err != nil {
		return part{}, 0, err
	}
	b := part{kind: manifest, line: mark + 1, before: lines[mark] + lines[open], body: lines[open+1 : end], after: lines[end]}
	if what == outputsMark {
		b.kind, b.run = commands, commandsOf(b.body)
		if len(b.run) == 0 {
			return part{}, 0, fmt.Errorf("line %d: there is no command in the block, no line that begins with %q", mark+1, prompt)
		}
	}
	return b, end + 1, nil
}

func commandsOf(body []string) (run []string) {
	continues := false
	for _, line := range body {
		command, begins := strings.CutPrefix(line, prompt)
		switch {
		case continues:
			run[len(run)-1] += line
		case begins:
			run = append(run, command)
		default:
			continue
		}
		continues = strings.HasSuffix(strings.TrimRight(line, "\n"), `\`)
	}
	for i := range run {
		run[i] = strings.TrimRight(run[i], "\n")
	}
	return run
}

// Shell runs scripts for bash.
type Shell interface {
	// Run returns what a script writes to standard output and error; input is its standard input.
	Run(ctx context.Context, script, input string, vars map[string]string) (string, error)
}

// Run does what the page says, from its first line to its last, and returns the page with the outputs that came. With an
// error there is no page.
func (p Page) Run(ctx context.Context, shell Shell, vars map[string]string, tell func(line int, what string)) (string, error) {
	var page strings.Builder
	for _, part := range p.parts {
		body := strings.Join(part.body, "")
		switch part.kind {
		case script:
			tell(part.line, firstLine(body))
			out, err := shell.Run(ctx, body, "", vars)
			if err != nil {
				return "", fmt.Errorf("line %d: %w: %s", part.line, err, out)
			}
			assign(vars, out)
		case manifest:
			tell(part.line, "apply")
			if out, err := shell.Run(ctx, "kubectl apply -f -", body, vars); err != nil {
				return "", fmt.Errorf("line %d: %w: %s", part.line, err, out)
			}
		case commands:
			var err error
			if body, err = part.outputs(ctx, shell, vars, tell); err != nil {
				return "", fmt.Errorf("line %d: %w", part.line, err)
			}
		case text:
		}
		page.WriteString(part.before + body + part.after)
	}
	return page.String(), nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

func assign(vars map[string]string, out string) {
	for line := range strings.Lines(out) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && strings.ToUpper(name) == name && !strings.ContainsAny(name, " /.-") {
			vars[name] = value
		}
	}
}

// outputs runs the commands of a block and returns what the block is to say.
func (p part) outputs(ctx context.Context, shell Shell, vars map[string]string, tell func(line int, what string)) (string, error) {
	var b strings.Builder
	for i, command := range p.run {
		tell(p.line, command)
		out, err := shell.Run(ctx, command, "", vars)
		if err != nil {
			return "", fmt.Errorf("%s: %w: %s", command, err, out)
		}
		if strings.Contains(out, fence) {
			return "", fmt.Errorf("%s: its output would end the block: %s", command, out)
		}
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(prompt + command + "\n")
		b.WriteString(trimmed(out))
	}
	return b.String(), nil
}

// trimmed is an output without blanks at the end of lines, and without empty lines at its end.
func trimmed(out string) string {
	var lines []string
	for line := range strings.Lines(out) {
		lines = append(lines, strings.TrimRight(line, " \t\r\n"))
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}
