package healthcheck

import (
	"net/http"
	"sync"
	"time"
)

// Proxy keeps the health of the service proxy: it is healthy unless a change has waited longer than Timeout. The zero
// value with a Timeout is ready to use, by any goroutine.
type Proxy struct {
	// Timeout is how long a change may wait to be programmed.
	Timeout time.Duration

	mu           sync.Mutex
	updated      time.Time
	waitingSince time.Time
	nodeGone     bool
}

// Queued notes that a change waits since now, unless an older one does.
func (p *Proxy) Queued() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waitingSince.IsZero() {
		p.waitingSince = time.Now()
	}
}

// Updated notes that all changes are programmed.
func (p *Proxy) Updated() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.updated, p.waitingSince = time.Now(), time.Time{}
}

// LastUpdated returns when all changes were last programmed, the zero Time before that.
func (p *Proxy) LastUpdated() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.updated
}

// SetNodeEligible notes whether the node should get traffic at all: whether its Node object exists and is to stay.
func (p *Proxy) SetNodeEligible(eligible bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nodeGone = !eligible
}

// Healthy reports whether changes are programmed in time.
func (p *Proxy) Healthy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.healthy(time.Now())
}

func (p *Proxy) healthy(now time.Time) bool {
	return p.waitingSince.IsZero() || now.Sub(p.waitingSince) < p.Timeout
}

type familyStatus struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

// status is the body of both paths.
type status struct {
	// LastUpdated is recent whenever the proxy is healthy, changes or not; older kube-proxies began that.
	LastUpdated  time.Time               `json:"lastUpdated"`
	CurrentTime  time.Time               `json:"currentTime"`
	NodeEligible *bool                   `json:"nodeEligible,omitempty"`
	Healthy      bool                    `json:"healthy"`
	Status       map[string]familyStatus `json:"status,omitempty"`
}

// Handler serves /healthz, for load balancers outside of the cluster, and /livez, for the kubelet: a node that is about
// to be deleted fails only the first.
func (p *Proxy) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { p.serve(w, true) })
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { p.serve(w, false) })
	return mux
}

func (p *Proxy) serve(w http.ResponseWriter, withNode bool) {
	p.mu.Lock()
	now := time.Now()
	healthy, updated, eligible := p.healthy(now), p.updated, !p.nodeGone
	p.mu.Unlock()

	body := status{LastUpdated: updated, CurrentTime: now, Healthy: healthy, Status: map[string]familyStatus{}}
	if !updated.IsZero() {
		for _, f := range []string{"IPv4", "IPv6"} {
			body.Status[f] = familyStatus{updated, healthy}
		}
	}
	ok := healthy
	if withNode {
		body.NodeEligible = &eligible
		ok = ok && eligible
	}
	if ok {
		body.LastUpdated = now
	}
	writeJSON(w, ok, body)
}
