package bgp

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/osrg/gobgp/v4/api"

	"github.com/seamark-io/seamark/speaker/plan"
)

// Each sentence names the thing to look at. (bird_test.go shows which of them real routers cause.)
func TestWords(t *testing.T) {
	p := plan.Peer{Name: "tor", Session: plan.Session{
		Address: netip.MustParseAddrPort("192.0.2.1:179"), PeerASN: 64500, LocalASN: 64512, HoldTime: 9, Source: netip.MustParseAddr("192.0.2.9"),
	}}
	dial := func(text string) string { return dialWords("dial tcp 0.0.0.0:0->192.0.2.1:179: "+text, p) }
	sent := func(code, subcode uint8) string {
		_, words := sentWords(code, subcode, &session{peer: p})
		return words
	}
	down := func(reason api.PeerState_DisconnectReason) string {
		_, words := downWords(reason, "", p)
		return words
	}
	for want, got := range map[string]string{
		"no answer on TCP port 179 of 192.0.2.1: check the address, the route and the password": dial("i/o timeout"),
		"192.0.2.1 refuses connections to TCP port 179":                                         dial("connect: connection refused"),
		"192.0.2.1 cannot be reached":                                                           dial("connect: no route to host"),
		"no route to 192.0.2.1":                                                                 dial("connect: network is unreachable"),
		"cannot dial from 192.0.2.9":                                                            dial("bind: cannot assign requested address"),
		"cannot connect to 192.0.2.1: dial tcp 0.0.0.0:0->192.0.2.1:179: something new":         dial("something new"),

		"wrong ASN: the router is not in AS 64500, correct peerASN": sent(2, 2),
		"the router has the same BGP identifier":                    sent(2, 3),
		"does not expect AS 64512":                                  sent(5, 1),
		"hold timer expired":                                        sent(4, 0),
		"the router sent more than 0 routes of one family":          sent(6, 1),
		"sent NOTIFICATION UPDATE Message Error/subcode 3":          sent(3, 3),

		"the router does not expect AS 64512 of this node":                           receivedWords(2, 2, "", p),
		"NOTIFICATION Cease/Administrative Shutdown, \"window 7\"":                   receivedWords(6, 2, "window 7", p),
		"NOTIFICATION Cease/Maximum Number of Prefixes Reached":                      receivedWords(6, 1, "", p),
		"NOTIFICATION code 99/subcode 1":                                             receivedWords(99, 1, "", p),
		"hold timer expired: nothing was heard of the router for the hold time":      down(api.PeerState_DISCONNECT_REASON_HOLD_TIMER_EXPIRED),
		"the connection broke":                                                       down(api.PeerState_DISCONNECT_REASON_READ_FAILED),
		"192.0.2.1 accepted the connection and closed it at once: check that it has": closedWords(p),
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q does not say %q", got, want)
		}
	}
}
