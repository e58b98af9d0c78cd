package speaker

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seamark-io/seamark/api/client"
	"github.com/seamark-io/seamark/api/v1alpha1"
)

type peerWritten struct {
	peerReport
	at time.Time
}

// changedPeers returns the BGPPeers to write now, and after how long others will be due.
func (r *reporter) changedPeers(o observation, now time.Time) (names []string, again time.Duration) {
	for name, p := range o.peers {
		w, ok := r.sessions[name]
		if ok && w.peerReport == p {
			continue
		}
		urgent := !ok || w.uid != p.uid || w.established() != p.established() || w.lastError != p.lastError
		if wait := w.at.Add(countPause).Sub(now); !urgent && wait > 0 {
			again = sooner(again, wait)
			continue
		}
		names = append(names, name)
	}
	for name := range r.sessions {
		if _, ok := o.peers[name]; !ok {
			names = append(names, name)
		}
	}
	return names, again
}

// writePeer applies this node's entry of one BGPPeer, or removes it when the node has no session with it.
func (r *reporter) writePeer(ctx context.Context, name string, peers map[string]peerReport) error {
	p, ok := peers[name]
	nodes := []v1alpha1.BGPPeerNode{}
	if ok {
		n := v1alpha1.BGPPeerNode{Node: r.cfg.Node, State: p.state, LastError: strings.ToValidUTF8(p.lastError, "?"), BFD: p.bfd, PrefixesSent: int32(p.prefixesSent)}
		if !p.since.IsZero() {
			since := metav1.NewTime(p.since).Rfc3339Copy()
			n.Since = &since
		}
		nodes = append(nodes, n)
	}
	object, _ := applied("BGPPeer", name, "nodes", nodes)
	err := client.ApplyStatus(ctx, r.cfg.Seamark.BGPPeers, r.manager, name, object)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write status of BGPPeer %s: %w", name, err)
	}
	r.written.Lock()
	defer r.written.Unlock()
	if ok {
		r.sessions[name] = peerWritten{peerReport: p, at: time.Now()}
	} else {
		delete(r.sessions, name)
	}
	return nil
}
