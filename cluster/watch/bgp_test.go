package watch

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
)

func TestPeer(t *testing.T) {
	for name, tt := range map[string]struct {
		in   v1alpha1.BGPPeerSpec
		want cluster.Peer
	}{
		"defaults": {
			v1alpha1.BGPPeerSpec{PeerAddress: "192.0.2.1", PeerASN: 4294967294, LocalASN: 64512},
			cluster.Peer{Address: netip.MustParseAddrPort("192.0.2.1:179"), PeerASN: 4294967294, LocalASN: 64512, HoldTime: 90, KeepaliveTime: 30, ConnectRetryTime: 5, RestartTime: 120},
		},
		"unnumbered": {
			v1alpha1.BGPPeerSpec{Interface: "eth1", PeerPort: 1179, PeerASN: 1, LocalASNFrom: &v1alpha1.ASNSource{NodeLabel: "asn"}, GracefulRestartTime: &metav1.Duration{}},
			cluster.Peer{Address: netip.AddrPortFrom(netip.Addr{}, 1179), Interface: "eth1", PeerASN: 1, LocalASNLabel: "asn", HoldTime: 90, KeepaliveTime: 30, ConnectRetryTime: 5, ExtendedNextHop: true},
		},
		"everything": {
			v1alpha1.BGPPeerSpec{
				PeerAddress: "2001:db8::1", PeerASN: 1, LocalASN: 2, SourceAddress: "2001:db8::2", SourceInterface: "lo", HoldTime: &metav1.Duration{Duration: 9 * time.Second},
				TTLSecurityHops: ptr.To[int32](1), ExtendedNextHop: ptr.To(true), MaxPrefixes: 7, PasswordSecretRef: &v1alpha1.SecretReference{Name: "s"},
				BFD:          &v1alpha1.BFDSpec{MinTransmitInterval: &metav1.Duration{Duration: 10*time.Millisecond + 1}, DetectMultiplier: 5, Strict: true},
				NodeSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"rack": "1"}},
			},
			cluster.Peer{
				Address: netip.MustParseAddrPort("[2001:db8::1]:179"), PeerASN: 1, LocalASN: 2, Source: netip.MustParseAddr("2001:db8::2"), SourceInterface: "lo",
				HoldTime: 9, KeepaliveTime: 3, ConnectRetryTime: 5, RestartTime: 120, MinTTL: 255, ExtendedNextHop: true, MaxPrefixes: 7, PasswordSecret: "s",
				BFD:   cluster.BFD{Enabled: true, MinTx: 10 * time.Millisecond, MinRx: 50 * time.Millisecond, Multiplier: 5, Strict: true},
				Nodes: cluster.Selector{{Key: "rack", Operator: cluster.In, Values: []string{"1"}}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Peer(&v1alpha1.BGPPeer{Spec: tt.in})
			if err != nil || !reflect.DeepEqual(*got, tt.want) {
				t.Errorf("got  %+v (%v)\nwant %+v", got, err, tt.want)
			}
		})
	}
}

// There is no session by a BGPPeer with a mistake, and the error names all of them.
func TestPeerWithMistakes(t *testing.T) {
	expression := func(operator metav1.LabelSelectorOperator, values ...string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "rack", Operator: operator, Values: values}}}
	}
	good := v1alpha1.BGPPeerSpec{PeerAddress: "192.0.2.1", PeerASN: 1, LocalASN: 2}
	for name, tt := range map[string]struct {
		change func(s *v1alpha1.BGPPeerSpec)
		words  []string
	}{
		"unknown operator":  {func(s *v1alpha1.BGPPeerSpec) { s.NodeSelector = expression("Equals", "1") }, []string{"nodeSelector", `"Equals"`}},
		"operator's values": {func(s *v1alpha1.BGPPeerSpec) { s.NodeSelector = expression(metav1.LabelSelectorOpIn) }, []string{"nodeSelector", "values"}},
		"label's value": {func(s *v1alpha1.BGPPeerSpec) {
			s.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b c"}}
		}, []string{"nodeSelector", "b c"}},
		"addresses": {func(s *v1alpha1.BGPPeerSpec) { s.PeerAddress, s.SourceAddress = "192.0.2", "x" }, []string{"peerAddress", "sourceAddress"}},
		"zone":      {func(s *v1alpha1.BGPPeerSpec) { s.PeerAddress = "fe80::1%eth0" }, []string{"peerAddress", "interface"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := v1alpha1.BGPPeer{Spec: good}
			tt.change(&p.Spec)
			_, err := Peer(&p)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, w := range tt.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is missing in %v", w, err)
				}
			}
			if peerOrNil(&p) != nil {
				t.Error("it is used")
			}
		})
	}
}

func TestAdvertisements(t *testing.T) {
	one := v1alpha1.BGPAdvertisement{
		Peers: []string{"tor"}, Communities: []string{"no-export"}, LargeCommunities: []string{"1:2:3"}, ExtendedCommunities: []string{"rt:1:2"},
		LocalPref: ptr.To[int64](4294967295), MED: ptr.To[int64](0), Prepend: 3, AggregationLength: ptr.To[int32](24), AggregationLengthV6: ptr.To[int32](64),
	}
	want := &cluster.Advertisement{Peers: []string{"tor"}, Length4: 24, Length6: 64, Attributes: cluster.Attributes{
		Communities:      []cluster.Community{0xffffff01},
		LargeCommunities: []cluster.LargeCommunity{{Admin: 1, Local1: 2, Local2: 3}},
		ExtCommunities:   []cluster.ExtCommunity{{Kind: "rt", ASN: 1, Number: 2}},
		LocalPref:        ptr.To[uint32](4294967295), MED: ptr.To[uint32](0), Prepend: 3,
	}}
	for name, in := range map[string]v1alpha1.BGPAnnounce{
		"fields": {BGPAdvertisement: one},
		"list":   {Advertisements: []v1alpha1.BGPAdvertisement{one}},
	} {
		got, err := advertisements(&in)
		if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], want) {
			t.Errorf("%s: got %+v (%v)", name, got, err)
		}
	}
	bad := one
	bad.Communities, bad.ExtendedCommunities = []string{"1:2", "70000:1"}, []string{"rt:65536:65536"}
	got, err := advertisements(&v1alpha1.BGPAnnounce{Advertisements: []v1alpha1.BGPAdvertisement{one, bad}})
	if err == nil || !strings.Contains(err.Error(), "70000:1") || !strings.Contains(err.Error(), "rt:65536:65536") {
		t.Errorf("error %v", err)
	}
	if len(got) != 2 || len(got[1].Attributes.Communities) != 1 || len(got[1].Attributes.ExtCommunities) != 0 {
		t.Errorf("what is right is not kept: %+v", got)
	}
}
