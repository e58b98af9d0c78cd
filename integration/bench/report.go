package bench

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
)

// ErrMissed is returned where a figure is beyond its target.
var ErrMissed = errors.New("targets were missed")

// Report is the result of a benchmark.
type Report struct {
	Title       string      `json:"title"`
	Command     string      `json:"command"` // that makes it
	Environment Environment `json:"environment"`
	Figures     []Figure    `json:"figures"`
	// Tables show what the figures are made of.
	Tables []Table `json:"tables"`
	// Samples are what percentiles among the figures were taken of.
	Samples Samples `json:"-"`
}

// Table has a cell for each of its columns in every row.
type Table struct {
	Title   string     `json:"title"`
	Note    string     `json:"note,omitempty"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
}

// Samples are single measurements, a value for each of the columns. Where rows have names, these stand in the first column.
type Samples struct {
	Columns []string
	Names   []string
	Rows    [][]float64
}

// Err returns an error that wraps ErrMissed and names the figures that are beyond their targets; nil if none is.
func (r Report) Err() error {
	var missed []string
	for _, f := range r.Figures {
		if f.Missed() {
			missed = append(missed, f.Name)
		}
	}
	if missed == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrMissed, strings.Join(missed, "; "))
}

// tables are all tables of the report, that of the figures first.
func (r Report) tables() []Table {
	figures := Table{Title: "Figures", Columns: []string{"figure", "measured", "target", ""}}
	for _, f := range r.Figures {
		figures.Rows = append(figures.Rows, f.cells())
	}
	return append([]Table{figures}, r.Tables...)
}

// WriteText writes the report for a terminal.
func (r Report) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "%s\n%s\n", r.Title, r.Environment)
	for _, t := range r.tables() {
		fmt.Fprintf(w, "\n%s\n", t.Title)
		var b strings.Builder
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, row := range append([][]string{t.Columns}, t.Rows...) {
			fmt.Fprintf(table, "  %s\n", strings.Join(row, "\t"))
		}
		if err := table.Flush(); err != nil {
			return err
		}
		for line := range strings.Lines(b.String()) {
			if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
				return err
			}
		}
	}
	return nil
}

// WriteMarkdown writes the report for docs/benchmarks.
func (r Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\nMade by `%s`; [README.md](README.md) says how and what the figures mean.\n\n%s.\n", r.Title, r.Command, r.Environment)
	for _, t := range r.tables() {
		fmt.Fprintf(&b, "\n## %s\n\n", t.Title)
		if t.Note != "" {
			fmt.Fprintf(&b, "%s\n\n", t.Note)
		}
		markdownRow(&b, t.Columns)
		b.WriteString("|---" + strings.Repeat("|---:", len(t.Columns)-1) + "|\n")
		for _, row := range t.Rows {
			markdownRow(&b, row)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func markdownRow(b *strings.Builder, cells []string) {
	for _, cell := range cells {
		b.WriteString("| " + strings.ReplaceAll(cell, "|", `\|`) + " ")
	}
	b.WriteString("|\n")
}

// WriteJSON writes the report for programs.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// WriteCSV writes the samples.
func (s Samples) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	rows := [][]string{s.Columns}
	for i, values := range s.Rows {
		var row []string
		if s.Names != nil {
			row = append(row, s.Names[i])
		}
		for _, v := range values {
			row = append(row, strconv.FormatFloat(v, 'f', 3, 64))
		}
		rows = append(rows, row)
	}
	return c.WriteAll(rows) // flushes
}

// Save writes the report as Markdown to a file and, beside it, the same as JSON and the samples as CSV.
func (r Report) Save(file string) error {
	base := strings.TrimSuffix(file, filepath.Ext(file))
	err := errors.Join(save(file, r.WriteMarkdown), save(base+".json", r.WriteJSON))
	if len(r.Samples.Rows) > 0 {
		err = errors.Join(err, save(base+".csv", r.Samples.WriteCSV))
	}
	return err
}

func save(file string, write func(io.Writer) error) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
