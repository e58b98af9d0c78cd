package watch

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
)

// advertisements converts what a pool says of BGP, as far as that is possible; what is wrong is left out.
func advertisements(b *v1alpha1.BGPAnnounce) ([]*cluster.Advertisement, error) {
	list := b.Advertisements
	if len(list) == 0 {
		list = []v1alpha1.BGPAdvertisement{b.BGPAdvertisement}
	}
	var out []*cluster.Advertisement
	var errs []error
	for i := range list {
		a := &list[i]
		c := &cluster.Advertisement{
			Peers:   a.Peers,
			Length4: uint8(deref(a.AggregationLength, 0)),
			Length6: uint8(deref(a.AggregationLengthV6, 0)),
			Attributes: cluster.Attributes{
				LocalPref: number(a.LocalPref),
				MED:       number(a.MED),
				Prepend:   uint8(a.Prepend),
			},
		}
		c.Attributes.Communities = parsed(&errs, a.Communities, cluster.ParseCommunity)
		c.Attributes.LargeCommunities = parsed(&errs, a.LargeCommunities, cluster.ParseLargeCommunity)
		c.Attributes.ExtCommunities = parsed(&errs, a.ExtendedCommunities, cluster.ParseExtCommunity)
		out = append(out, c)
	}
	return out, errors.Join(errs...)
}

func parsed[T any](errs *[]error, in []string, parse func(string) (T, error)) []T {
	var out []T
	for _, s := range in {
		v, err := parse(s)
		if err != nil {
			*errs = append(*errs, err)
			continue
		}
		out = append(out, v)
	}
	return out
}

func number(p *int64) *uint32 {
	if p == nil {
		return nil
	}
	n := uint32(*p)
	return &n
}

// Peer converts a BGPPeer without its password. With an error there is no session with it: the error says all that is wrong
// and that the API server does not check.
func Peer(p *v1alpha1.BGPPeer) (*cluster.Peer, error) {
	var errs []error
	address := func(field, s string) netip.Addr {
		if s == "" {
			return netip.Addr{}
		}
		a, err := netip.ParseAddr(s)
		if err == nil && a.Zone() != "" {
			err = errors.New("write the interface into the field interface")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
		return a.Unmap()
	}
	if _, err := metav1.LabelSelectorAsSelector(p.Spec.NodeSelector); err != nil {
		errs = append(errs, fmt.Errorf("nodeSelector: %w", err))
	}
	port := p.Spec.PeerPort
	if port == 0 {
		port = 179
	}
	hold := seconds(p.Spec.HoldTime, 90)
	out := &cluster.Peer{
		Name:             p.Name,
		UID:              string(p.UID),
		Address:          netip.AddrPortFrom(address("peerAddress", p.Spec.PeerAddress), uint16(port)),
		Interface:        p.Spec.Interface,
		PeerASN:          uint32(p.Spec.PeerASN),
		LocalASN:         uint32(p.Spec.LocalASN),
		Source:           address("sourceAddress", p.Spec.SourceAddress),
		SourceInterface:  p.Spec.SourceInterface,
		HoldTime:         hold,
		KeepaliveTime:    seconds(p.Spec.KeepaliveTime, hold/3),
		ConnectRetryTime: seconds(p.Spec.ConnectRetryTime, 5),
		RestartTime:      seconds(p.Spec.GracefulRestartTime, 120),
		MultihopTTL:      uint8(deref(p.Spec.EBGPMultihop, 0)),
		ExtendedNextHop:  deref(p.Spec.ExtendedNextHop, p.Spec.Interface != ""),
		MaxPrefixes:      uint32(p.Spec.MaxPrefixes),
		Nodes:            Selector(p.Spec.NodeSelector),
	}
	if hops := deref(p.Spec.TTLSecurityHops, 0); hops > 0 {
		out.MinTTL = uint8(256 - hops)
	}
	if from := p.Spec.LocalASNFrom; from != nil {
		out.LocalASNLabel = from.NodeLabel
	}
	if ref := p.Spec.PasswordSecretRef; ref != nil {
		out.PasswordSecret = ref.Name
	}
	if b := p.Spec.BFD; b != nil {
		out.BFD = cluster.BFD{
			Enabled: true, Strict: b.Strict, Multiplier: uint8(max(b.DetectMultiplier, 1)),
			MinTx: interval(b.MinTransmitInterval), MinRx: interval(b.MinReceiveInterval),
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

func seconds(d *metav1.Duration, unset uint16) uint16 {
	if d == nil {
		return unset
	}
	return uint16(d.Seconds())
}

func interval(d *metav1.Duration) time.Duration {
	if d == nil {
		return 50 * time.Millisecond
	}
	return d.Truncate(time.Microsecond)
}
