package main

import (
	"errors"
	"strings"
	"testing"
)

// TestProbe: only what is switched on must be there, and all that is missing is said at once.
func TestProbe(t *testing.T) {
	lacks := func(what string) func() error { return func() error { return errors.New(what) } }
	err := probe([]need{{"speaker", true, lacks("sockets")}, {"proxy", false, lacks("NAT")}, {"dns", true, fine}})
	if want := "this node lacks what the speaker needs (--speaker=false does without it):\nsockets"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	err = probe([]need{{"speaker", true, lacks("sockets")}, {"proxy", true, lacks("NAT")}})
	if err == nil || !strings.Contains(err.Error(), "sockets") || !strings.Contains(err.Error(), "NAT") {
		t.Errorf("got %v", err)
	}
	if err := probe([]need{{"proxy", false, lacks("NAT")}}); err != nil {
		t.Errorf("got %v", err)
	}
}

// TestProbeThisKernel: what the tests run on has everything.
func TestProbeThisKernel(t *testing.T) {
	if !isolated(t) {
		return
	}
	if err := probe(needs(&config{speaker: true, proxy: true, dns: true})); err != nil {
		t.Error(err)
	}
}
