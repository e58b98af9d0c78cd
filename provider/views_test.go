package provider

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

func presenceOf(node string) presence {
	switch node {
	case "gone":
		return gone
	case "silent":
		return notReady
	default:
		return ready
	}
}

func TestVIPStatus(t *testing.T) {
	type announcers = []v1alpha1.Announcer
	var crowd announcers
	for _, node := range []string{"1", "2", "3", "4", "5", "6"} {
		crowd = append(crowd, v1alpha1.Announcer{Node: node, Via: "BGP"})
	}
	for _, tt := range []struct {
		name string
		in   announcers
		want v1alpha1.VIPStatus
	}{
		{name: "nobody yet"},
		{
			name: "one owner", in: announcers{{Node: "n2", Via: "ARP"}},
			want: v1alpha1.VIPStatus{Owner: "n2", Announcers: announcers{{Node: "n2", Via: "ARP"}}},
		},
		{
			name: "owner and routers; a node that is gone is taken out",
			in:   announcers{{Node: "n2", Via: "BGP"}, {Node: "gone", Via: "ARP"}, {Node: "n1", Via: "BGP"}, {Node: "n1", Via: "ARP"}},
			want: v1alpha1.VIPStatus{Owner: "n1", BGP: "n1,n2", Announcers: announcers{{Node: "n2", Via: "BGP"}, {Node: "n1", Via: "BGP"}, {Node: "n1", Via: "ARP"}}},
		},
		{name: "only a node that is gone", in: announcers{{Node: "gone", Via: "ARP"}}},
		{
			name: "a node that is not ready does not count",
			in:   announcers{{Node: "silent", Via: "ARP"}, {Node: "silent", Via: "BGP"}, {Node: "n1", Via: "ARP"}},
			want: v1alpha1.VIPStatus{Owner: "n1", Announcers: announcers{{Node: "silent", Via: "ARP"}, {Node: "silent", Via: "BGP"}, {Node: "n1", Via: "ARP"}}},
		},
		{
			name: "more than fit a column", in: crowd,
			want: v1alpha1.VIPStatus{BGP: "1,2,3,4,+2", Announcers: crowd},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			vip := &v1alpha1.VIP{Status: v1alpha1.VIPStatus{Owner: "stale", BGP: "stale", Announcers: tt.in}}
			if got := vipStatus(vip, presenceOf); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// What nodes saw of other stations stays as long as the nodes.
func TestVIPStatusKeepsDuplicates(t *testing.T) {
	seen := v1alpha1.Duplicate{Node: "n1", MAC: "02:00:00:00:00:09"}
	vip := &v1alpha1.VIP{Status: v1alpha1.VIPStatus{Duplicates: []v1alpha1.Duplicate{{Node: "gone", MAC: seen.MAC}, seen}}}
	if got := vipStatus(vip, presenceOf).Duplicates; len(got) != 1 || got[0] != seen {
		t.Errorf("got %v", got)
	}
}

// The condition of a VIP says what nodes saw, from the first on: the one that saw it need not be its owner any more.
func TestDuplicateCondition(t *testing.T) {
	type duplicates = []v1alpha1.Duplicate
	since, later := metav1.NewTime(time.Unix(1000, 0)), metav1.NewTime(time.Unix(2000, 0))
	seen := func(node string, since metav1.Time) v1alpha1.Duplicate {
		return v1alpha1.Duplicate{Node: node, MAC: "02:00:00:00:00:09", Interface: "eth0", Since: &since}
	}
	was := func(status metav1.ConditionStatus) []metav1.Condition {
		return []metav1.Condition{{Type: v1alpha1.VIPDuplicateAddress, Status: status, Reason: "Before", Message: "before", LastTransitionTime: since}}
	}
	foreign := metav1.Condition{Type: "Other", Status: metav1.ConditionTrue, Reason: "Other"}
	const one = "node n1 sees 02:00:00:00:00:09 on eth0"
	for _, tt := range []struct {
		name   string
		in     duplicates
		before []metav1.Condition
		// want is the status, the reason and the message; empty: there is no condition.
		want string
		// at is when its status became that; zero: now.
		at metav1.Time
	}{
		{name: "never", want: ""},
		{name: "others' conditions stay", before: []metav1.Condition{foreign}, want: ""},
		{name: "one", in: duplicates{seen("n1", later)}, want: "True StationSeen " + one},
		{name: "still", in: duplicates{seen("n1", later)}, before: was("True"), want: "True StationSeen " + one, at: since},
		{
			name: "the owner is another, both see it", in: duplicates{seen("n2", later), seen("n1", since)}, before: was("False"),
			want: "True StationSeen " + one + "; node n2 sees 02:00:00:00:00:09 on eth0",
		},
		{
			name: "the first owner is gone, the second sees it", in: duplicates{seen("gone", since), seen("n1", later)}, before: was("True"),
			want: "True StationSeen " + one, at: since,
		},
		{
			name: "the first owner is not ready", in: duplicates{seen("silent", since), seen("n1", later)}, before: was("True"),
			want: "True StationSeen " + one, at: since,
		},
		{
			name: "nobody is ready who saw it", in: duplicates{seen("silent", since)}, before: was("True"),
			want: "Unknown NodeNotReady node silent, which saw 02:00:00:00:00:09 on eth0, is not ready",
		},
		{name: "it is over", before: was("True"), want: "False NoStation no other station is seen to use the address"},
		{name: "it was over", before: was("False"), want: "False NoStation no other station is seen to use the address", at: since},
		{name: "the node that saw it is gone", in: duplicates{seen("gone", since)}, before: was("True"), want: "False NoStation no other station is seen to use the address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			vip := &v1alpha1.VIP{Status: v1alpha1.VIPStatus{Duplicates: tt.in, Conditions: tt.before}}
			before := vip.DeepCopy()
			status := vipStatus(vip, presenceOf)
			if !equality.Semantic.DeepEqual(vip, before) {
				t.Error("what was read has changed")
			}
			got := ""
			if c := meta.FindStatusCondition(status.Conditions, v1alpha1.VIPDuplicateAddress); c != nil {
				got = fmt.Sprint(c.Status, " ", c.Reason, " ", c.Message)
				if since := time.Since(c.LastTransitionTime.Time); !c.LastTransitionTime.Equal(&tt.at) && (!tt.at.IsZero() || since > time.Minute) {
					t.Errorf("since %v, want %v", c.LastTransitionTime, tt.at)
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if len(tt.before) > 0 && tt.before[0] == foreign && !meta.IsStatusConditionTrue(status.Conditions, "Other") {
				t.Error("a condition of somebody else is gone")
			}
			vip.Status = status
			if again := vipStatus(vip, presenceOf); !equality.Semantic.DeepEqual(again, status) {
				t.Errorf("made anew it is another: %+v", again)
			}
		})
	}
}

func TestPeerStatus(t *testing.T) {
	type nodes = []v1alpha1.BGPPeerNode
	for _, tt := range []struct {
		name                 string
		in                   nodes
		established, message string
	}{
		{name: "nobody yet"},
		{name: "all", in: nodes{{Node: "n1", State: "Established"}, {Node: "n2", State: "Established"}}, established: "2/2"},
		{name: "a node that is gone is taken out", in: nodes{{Node: "gone", State: "Established"}, {Node: "n2", State: "Established"}}, established: "1/1"},
		{
			name: "a node that is not ready", in: nodes{{Node: "silent", State: "Established"}, {Node: "n2", State: "Established"}},
			established: "1/2", message: "silent: the node is not ready",
		},
		{
			name:        "the same trouble is told once",
			in:          nodes{{Node: "n3", State: "Active", LastError: "wrong ASN"}, {Node: "n1", State: "Active", LastError: "wrong ASN"}, {Node: "n2", State: "Established"}, {Node: "n4", State: "Connect"}},
			established: "1/4", message: "n1,n3: wrong ASN; n4: state Connect",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := peerStatus(&v1alpha1.BGPPeer{Status: v1alpha1.BGPPeerStatus{Established: "stale", Message: "stale", Nodes: tt.in}}, presenceOf)
			if got.Established != tt.established || got.Message != tt.message {
				t.Errorf("got %q, %q; want %q, %q", got.Established, got.Message, tt.established, tt.message)
			}
		})
	}
}

// The sessions for people, and what is said of a BGPPeer that no node can use.
func TestPeerStatusForPeople(t *testing.T) {
	since := metav1.Date(2026, 7, 1, 12, 0, 0, 0, time.FixedZone("", 2*60*60))
	peer := &v1alpha1.BGPPeer{Status: v1alpha1.BGPPeerStatus{Nodes: []v1alpha1.BGPPeerNode{
		{Node: "n2", State: "Active", Since: &since, LastError: "wrong ASN"},
		{Node: "n1", State: "Established", Since: &since, PrefixesSent: 12, BFD: "Up (3 x 50ms)"},
	}}}
	got := peerStatus(peer, presenceOf)
	if want := "n1 Established since 2026-07-01T10:00:00Z, 12 prefixes, BFD Up (3 x 50ms); n2 Active since 2026-07-01T10:00:00Z: wrong ASN"; got.Sessions != want {
		t.Errorf("sessions %q\nwant     %q", got.Sessions, want)
	}
	peer.Status.Nodes = nil
	for i := range 2 * maxSessions {
		peer.Status.Nodes = append(peer.Status.Nodes, v1alpha1.BGPPeerNode{Node: fmt.Sprintf("n%03d", i), State: "Idle"})
	}
	if got := sessionsText(peer.Status.Nodes); !strings.HasSuffix(got, "n049 Idle; and 50 more") {
		t.Errorf("sessions %q", got)
	}
	peer.Spec.NodeSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "rack", Operator: "Equals"}}}
	if got := peerStatus(peer, presenceOf); !strings.Contains(got.Message, `nodeSelector: "Equals"`) || got.Established != "" {
		t.Errorf("status %+v", got)
	}
}

// What nodes write is gathered, does not count while a node is not ready, and is taken out when it is gone.
func TestViews(t *testing.T) {
	inWorld(t, func(w *world) {
		for _, name := range []string{"n1", "n2"} {
			w.must(w.kube.Tracker().Add(&corev1.Node{
				ObjectMeta: metav1.ObjectMeta{Name: name},
				Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
			}))
		}
		w.controller()
		w.pool("default", "192.0.2.0/32")
		w.service("web")
		_, err := w.seamark.BGPPeers.Create(w.Context(), &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "router"}, Status: v1alpha1.BGPPeerStatus{
			Nodes: []v1alpha1.BGPPeerNode{{Node: "n1", State: "Established"}, {Node: "n2", State: "Active", LastError: "no route to host"}},
		}}, metav1.CreateOptions{})
		w.must(err)
		vip, err := w.seamark.VIPs.Get(w.Context(), "192.0.2.0", metav1.GetOptions{})
		w.must(err)
		vip.Status.Announcers = []v1alpha1.Announcer{{Node: "n1", Via: "BGP"}, {Node: "n2", Via: "BGP"}}
		_, err = w.seamark.VIPs.UpdateStatus(w.Context(), vip, metav1.UpdateOptions{})
		w.must(err)
		w.settle()
		w.wantViews("shop/web  n1,n2", "1/2 n2: no route to host")

		patch := `{"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}}`
		_, err = w.kube.CoreV1().Nodes().Patch(w.Context(), "n2", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
		w.must(err)
		w.settle()
		w.wantViews("shop/web  n1", "1/2 n2: the node is not ready")
		_, err = w.kube.CoreV1().Nodes().Patch(w.Context(), "n2", types.StrategicMergePatchType, []byte(`{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`), metav1.PatchOptions{}, "status")
		w.must(err)
		w.settle()
		w.wantViews("shop/web  n1,n2", "1/2 n2: no route to host")
		for _, name := range []string{"n1", "n2"} {
			w.must(w.kube.CoreV1().Nodes().Delete(w.Context(), name, metav1.DeleteOptions{}))
		}
		w.settle()
		w.wantViews("shop/web  ", " ")
	})
}

// A condition says what an agent saw, and is over when the agent takes its entry out, or when its node is gone.
func TestDuplicateIsCondition(t *testing.T) {
	inWorld(t, func(w *world) {
		w.must(w.kube.Tracker().Add(&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n1"},
			Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
		}))
		w.controller()
		w.pool("default", "192.0.2.0/32")
		w.service("web")
		write := func(seen ...v1alpha1.Duplicate) {
			vip, err := w.seamark.VIPs.Get(w.Context(), "192.0.2.0", metav1.GetOptions{})
			w.must(err)
			vip.Status.Duplicates = seen
			_, err = w.seamark.VIPs.UpdateStatus(w.Context(), vip, metav1.UpdateOptions{})
			w.must(err)
		}
		want := func(status metav1.ConditionStatus) {
			w.Helper()
			w.settle()
			vip, err := w.seamark.VIPs.Get(w.Context(), "192.0.2.0", metav1.GetOptions{})
			w.must(err)
			var got metav1.ConditionStatus
			if c := meta.FindStatusCondition(vip.Status.Conditions, v1alpha1.VIPDuplicateAddress); c != nil {
				got = c.Status
			}
			if got != status {
				w.Errorf("condition %q, want %q; status %+v", got, status, vip.Status)
			}
		}
		want("")
		write(v1alpha1.Duplicate{Node: "n1", MAC: "02:00:00:00:00:09"})
		want(metav1.ConditionTrue)
		write()
		want(metav1.ConditionFalse)
		write(v1alpha1.Duplicate{Node: "n1", MAC: "02:00:00:00:00:09"})
		want(metav1.ConditionTrue)
		w.must(w.kube.CoreV1().Nodes().Delete(w.Context(), "n1", metav1.DeleteOptions{}))
		want(metav1.ConditionFalse)
	})
}

func (w *world) wantViews(vip, peer string) {
	w.Helper()
	v, err := w.seamark.VIPs.Get(w.Context(), "192.0.2.0", metav1.GetOptions{})
	w.must(err)
	if got := v.Spec.UsedBy + " " + v.Status.Owner + " " + v.Status.BGP; got != vip {
		w.Errorf("VIP: %q; want %q", got, vip)
	}
	p, err := w.seamark.BGPPeers.Get(w.Context(), "router", metav1.GetOptions{})
	w.must(err)
	if got := p.Status.Established + " " + p.Status.Message; got != peer {
		w.Errorf("BGPPeer: %q; want %q", got, peer)
	}
}

func TestConditionEntry(t *testing.T) {
	now := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	earlier := metav1.NewTime(now.Add(-time.Hour))
	allocated := metav1.Condition{Type: v1alpha1.ServiceAddressAllocated, Status: metav1.ConditionTrue, Reason: "Allocated", Message: "192.0.2.1", LastTransitionTime: earlier}
	for _, tt := range []struct {
		name    string
		have    []metav1.Condition
		outcome outcome
		changes bool
		since   metav1.Time
	}{
		{name: "new", outcome: outcome{status: "True", reason: "Allocated", message: "192.0.2.1"}, changes: true, since: now},
		{name: "the same", have: []metav1.Condition{allocated}, outcome: outcome{status: "True", reason: "Allocated", message: "192.0.2.1"}},
		{name: "another address is no transition", have: []metav1.Condition{allocated}, outcome: outcome{status: "True", reason: "Allocated", message: "192.0.2.2"}, changes: true, since: earlier},
		{name: "a failure is", have: []metav1.Condition{allocated}, outcome: outcome{status: "False", reason: "PoolExhausted", message: "full"}, changes: true, since: now},
		{name: "taken away", have: []metav1.Condition{allocated}, changes: true},
		{name: "nothing to take away"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := &corev1.Service{Status: corev1.ServiceStatus{Conditions: tt.have}}
			entry := conditionEntry(svc, tt.outcome, now)
			if (entry != nil) != tt.changes {
				t.Fatalf("entry %v", entry)
			}
			if entry == nil {
				return
			}
			c, ok := entry.(*metav1.Condition)
			if ok != (tt.outcome.status != "") || ok && !c.LastTransitionTime.Equal(&tt.since) {
				t.Errorf("entry %+v", entry)
			}
		})
	}
}
