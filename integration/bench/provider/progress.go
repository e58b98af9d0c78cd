package provider

import (
	"fmt"
	"io"
	"time"
)

// progress writes lines with the time since the start.
type progress struct {
	w     io.Writer
	start time.Time
}

func (p *progress) printf(format string, args ...any) {
	fmt.Fprintf(p.w, "%6.1fs  %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}

const reportEvery = 2 * time.Second

// during calls f and says every two seconds how far it is.
func (p *progress) during(how func() string, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-ticker.C:
			p.printf("%s", how())
		}
	}
}
