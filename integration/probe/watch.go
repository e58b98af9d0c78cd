package probe

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Watch asks a URL again and again.
type Watch struct {
	From Namespace
	URL  string // with a literal address
	// Every is the time between two requests, each on a connection of its own.
	Every time.Duration
	// Timeout of a request. Below one second no request is saved by the retransmission of its SYN (RFC 6298 section 2: after
	// one second), so each answer stands for the moment at which it was asked for.
	Timeout time.Duration
	// Seen, if set, is told of each result as it comes, from several goroutines.
	Seen func(Result)
}

// Result is the outcome of one request.
type Result struct {
	Sent time.Time
	Took time.Duration
	Body string
	Err  error
}

// Run asks until ctx ends, waits for what is still under way, and returns all results in the order of their requests.
func (w Watch) Run(ctx context.Context) Record {
	client := w.From.HTTP(w.Timeout)
	var (
		mu      sync.Mutex
		record  Record
		pending sync.WaitGroup
	)
	ticker := time.NewTicker(w.Every)
	defer ticker.Stop()
	for {
		pending.Go(func() {
			r := ask(client, w.URL)
			if w.Seen != nil {
				w.Seen(r)
			}
			mu.Lock()
			defer mu.Unlock()
			record = append(record, r)
		})
		select {
		case <-ticker.C:
		case <-ctx.Done():
			pending.Wait()
			slices.SortFunc(record, func(a, b Result) int { return a.Sent.Compare(b.Sent) })
			return record
		}
	}
}

func ask(client *http.Client, url string) (r Result) {
	r.Sent = time.Now()
	defer func() { r.Took = time.Since(r.Sent) }()
	resp, err := client.Get(url)
	if err != nil {
		r.Err = err
		return r
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	r.Body, r.Err = strings.TrimSpace(string(body)), err
	if err == nil && resp.StatusCode != http.StatusOK {
		r.Err = fmt.Errorf("%s: %s", resp.Status, r.Body)
	}
	return r
}
