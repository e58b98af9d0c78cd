package demo

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// printer lays out what a person reads.
type printer struct {
	out   io.Writer
	color bool
	start time.Time
}

// Styles, as parameters of ECMA-48's SGR.
const (
	bold  = "1"
	green = "32"
	cyan  = "36"
	faint = "2"
)

const indent = "    "

func (p *printer) styled(style, text string) string {
	if !p.color {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

func (p *printer) title(text string) {
	fmt.Fprintf(p.out, "%s\n%s\n", p.styled(bold, text), strings.Repeat("=", len(text)))
}

func (p *printer) heading(text string) {
	fmt.Fprintf(p.out, "\n%s\n", p.styled(bold, text))
}

// step prints the heading of a step, with the time since the start.
func (p *printer) step(number, of int, title string) {
	at := fmt.Sprintf("%.0fs", time.Since(p.start).Seconds())
	fmt.Fprintf(p.out, "\n%s  %s\n", p.styled(bold, fmt.Sprintf("[%d/%d] %s", number, of, title)), p.styled(faint, at))
}

// say prints a remark.
func (p *printer) say(format string, args ...any) {
	fmt.Fprintf(p.out, format+"\n", args...)
}

func (p *printer) drawing(text string) { fmt.Fprintf(p.out, "%s\n", p.styled(faint, text)) }

// command prints a command as typed at the prompt of a host; of the machine itself if host is empty.
func (p *printer) command(host, line string) {
	fmt.Fprintf(p.out, "%s%s %s\n", indent, p.styled(faint, host+"$"), p.styled(cyan, line))
}

// output prints what a command wrote.
func (p *printer) output(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		fmt.Fprintf(p.out, "%s%s\n", indent, strings.TrimRight(line, "\n"))
	}
}

// good prints that something is as it should be.
func (p *printer) good(format string, args ...any) {
	fmt.Fprintf(p.out, "%s %s\n", p.styled(green, "ok"), fmt.Sprintf(format, args...))
}

// indented returns a writer for the progress of others.
func (p *printer) indented() io.Writer { return &indenter{out: p.out} }

// indenter indents whole lines. It may be used concurrently.
type indenter struct {
	mu      sync.Mutex
	out     io.Writer
	partial []byte
}

func (w *indenter) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.partial = append(w.partial, text...)
	for {
		line, rest, whole := bytes.Cut(w.partial, []byte("\n"))
		if !whole {
			return len(text), nil
		}
		if _, err := fmt.Fprintf(w.out, "%s%s\n", indent, line); err != nil {
			return 0, err
		}
		w.partial = bytes.Clone(rest)
	}
}
