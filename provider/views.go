package provider

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster/watch"
)

// A view is the part of a status that the controller gathers from what the nodes wrote into the other part. It also
// takes out what nodes left behind that are gone, since those cannot do it themselves. What a node wrote that is not
// ready stays and does not count: a node that was only cut off need not find out that it should write it again. A view is
// written against the version that was read: if a node writes in between, the API server refuses and it is made anew.

// Prefixes of the keys of the queue of views.
const (
	viewOfVIP  = "vip/"
	viewOfPeer = "bgppeer/"
)

func (p *Provider) syncView(ctx context.Context, key string) error {
	var err error
	if name, ok := strings.CutPrefix(key, viewOfVIP); ok {
		err = p.syncVIPStatus(ctx, name)
	} else if name, ok := strings.CutPrefix(key, viewOfPeer); ok {
		err = p.syncPeerStatus(ctx, name)
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (p *Provider) syncVIPStatus(ctx context.Context, name string) error {
	vip, ok := get[*v1alpha1.VIP](p.vips, name)
	if !ok {
		return nil
	}
	status := vipStatus(vip, p.presence)
	if equality.Semantic.DeepEqual(status, vip.Status) {
		return nil
	}
	vip = vip.DeepCopy()
	vip.Status = status
	if _, err := p.Seamark.VIPs.UpdateStatus(ctx, vip, metav1.UpdateOptions{FieldManager: FieldManager}); err != nil {
		return fmt.Errorf("write the status of VIP %s: %w", name, err)
	}
	return nil
}

func (p *Provider) syncPeerStatus(ctx context.Context, name string) error {
	peer, ok := get[*v1alpha1.BGPPeer](p.peers, name)
	if !ok {
		return nil
	}
	status := peerStatus(peer, p.presence)
	if equality.Semantic.DeepEqual(status, peer.Status) {
		return nil
	}
	peer = peer.DeepCopy()
	peer.Status = status
	if _, err := p.Seamark.BGPPeers.UpdateStatus(ctx, peer, metav1.UpdateOptions{FieldManager: FieldManager}); err != nil {
		return fmt.Errorf("write the status of BGPPeer %s: %w", name, err)
	}
	return nil
}

// viewsOfNode has everything looked at again that a node has an entry in.
func (p *Provider) viewsOfNode(node string) {
	if !p.isReady() {
		return // the start looks at all
	}
	for _, vip := range list[*v1alpha1.VIP](p.vips) {
		if slices.ContainsFunc(vip.Status.Announcers, func(a v1alpha1.Announcer) bool { return a.Node == node }) ||
			slices.ContainsFunc(vip.Status.Duplicates, func(d v1alpha1.Duplicate) bool { return d.Node == node }) {
			p.views.Add(viewOfVIP + vip.Name)
		}
	}
	for _, peer := range list[*v1alpha1.BGPPeer](p.peers) {
		if slices.ContainsFunc(peer.Status.Nodes, func(n v1alpha1.BGPPeerNode) bool { return n.Node == node }) {
			p.views.Add(viewOfPeer + peer.Name)
		}
	}
}

// presence is what the cluster knows of a node.
type presence int

const (
	gone     presence = iota // there is no Node object
	notReady                 // silent, perhaps only to us
	ready
)

func (p *Provider) presence(node string) presence {
	n, err := p.nodes.Get(node)
	switch {
	case err != nil:
		return gone
	case !isReady(n):
		return notReady
	default:
		return ready
	}
}

func isReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// vipStatus returns the status that a VIP should have.
func vipStatus(vip *v1alpha1.VIP, presenceOf func(node string) presence) v1alpha1.VIPStatus {
	var s v1alpha1.VIPStatus
	var owners, routers []string
	for _, a := range vip.Status.Announcers {
		node := presenceOf(a.Node)
		if node == gone {
			continue
		}
		s.Announcers = append(s.Announcers, a)
		switch {
		case node == notReady:
		case a.Via == v1alpha1.ViaBGP:
			routers = append(routers, a.Node)
		default:
			owners = append(owners, a.Node)
		}
	}
	for _, d := range vip.Status.Duplicates {
		if presenceOf(d.Node) != gone {
			s.Duplicates = append(s.Duplicates, d)
		}
	}
	s.Conditions = duplicateCondition(vip.Status.Conditions, s.Duplicates, presenceOf)
	slices.Sort(owners)
	slices.Sort(routers)
	s.BGP = short(routers)
	// The node that took the address last wrote its name. Only when that is gone or silent is there something to mend.
	s.Owner = vip.Status.Owner
	if !slices.Contains(owners, s.Owner) {
		s.Owner = short(owners)
	}
	return s
}

// duplicateCondition returns the conditions with the one that says whether another station uses the address; a VIP of which that was
// never so needs none.
func duplicateCondition(before []metav1.Condition, seen []v1alpha1.Duplicate, presenceOf func(node string) presence) []metav1.Condition {
	if len(seen) == 0 && meta.FindStatusCondition(before, v1alpha1.VIPDuplicateAddress) == nil {
		return before
	}
	var now, once []string
	for _, d := range seen {
		station := d.MAC
		if d.Interface != "" {
			station += " on " + d.Interface
		}
		if presenceOf(d.Node) == ready {
			now = append(now, fmt.Sprintf("node %s sees %s", d.Node, station))
		} else {
			once = append(once, fmt.Sprintf("node %s, which saw %s, is not ready", d.Node, station))
		}
	}
	slices.Sort(now)
	slices.Sort(once)
	c := metav1.Condition{
		Type: v1alpha1.VIPDuplicateAddress, Status: metav1.ConditionFalse, Reason: v1alpha1.VIPReasonNoStation,
		Message: "no other station is seen to use the address",
	}
	switch {
	case len(now) > 0:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.VIPReasonStationSeen, strings.Join(now, "; ")
	case len(once) > 0: // perhaps it is still there
		c.Status, c.Reason, c.Message = metav1.ConditionUnknown, v1alpha1.VIPReasonNodeNotReady, strings.Join(once, "; ")
	}
	after := slices.Clone(before)
	meta.SetStatusCondition(&after, c)
	return after
}

// maxSessions bounds the text of BGPPeerStatus.Sessions: more nodes than fit on a screen are counted.
const maxSessions = 50

// sessionsText writes the sessions of nodes for people.
func sessionsText(nodes []v1alpha1.BGPPeerNode) string {
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b v1alpha1.BGPPeerNode) int { return strings.Compare(a.Node, b.Node) })
	var out []string
	for i := range nodes {
		if i == maxSessions {
			out = append(out, fmt.Sprintf("and %d more", len(nodes)-i))
			break
		}
		n := &nodes[i]
		text := n.Node + " " + n.State
		if n.Since != nil {
			text += " since " + n.Since.UTC().Format(time.RFC3339)
		}
		if n.State == v1alpha1.BGPEstablished {
			text += fmt.Sprintf(", %d prefixes", n.PrefixesSent)
		} else if n.LastError != "" {
			text += ": " + n.LastError
		}
		if n.BFD != "" {
			text += ", BFD " + n.BFD
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// peerStatus returns the status that a BGPPeer should have.
func peerStatus(peer *v1alpha1.BGPPeer, presenceOf func(node string) presence) v1alpha1.BGPPeerStatus {
	var s v1alpha1.BGPPeerStatus
	established := 0
	wrong := map[string][]string{} // nodes by what is wrong
	for _, n := range peer.Status.Nodes {
		node := presenceOf(n.Node)
		if node == gone {
			continue
		}
		s.Nodes = append(s.Nodes, n)
		why := n.LastError
		switch {
		case node == notReady:
			why = "the node is not ready"
		case n.State == v1alpha1.BGPEstablished:
			established++
			continue
		case why == "":
			why = "state " + n.State
		}
		wrong[why] = append(wrong[why], n.Node)
	}
	if _, err := watch.Peer(peer); err != nil {
		s.Message = err.Error()
		return s
	}
	if len(s.Nodes) == 0 {
		return s
	}
	s.Sessions = sessionsText(s.Nodes)
	s.Established = fmt.Sprintf("%d/%d", established, len(s.Nodes))
	var messages []string
	for why, nodes := range wrong {
		slices.Sort(nodes)
		messages = append(messages, short(nodes)+": "+why)
	}
	slices.Sort(messages)
	s.Message = strings.Join(messages, "; ")
	return s
}
