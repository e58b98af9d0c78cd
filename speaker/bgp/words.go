package bgp

import (
	"fmt"
	"strings"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/plan"
)

// dialWords says what is behind an error of dialling the router, of which gobgp gives the text.
func dialWords(text string, p plan.Peer) string {
	router, port := p.Session.Address.Addr(), p.Session.Address.Port()
	is := func(errno unix.Errno) bool { return strings.Contains(text, errno.Error()) }
	switch {
	case strings.Contains(text, "i/o timeout"), is(unix.ETIMEDOUT):
		// TCP MD5 (RFC 2385) has no other sign of a wrong key than silence.
		return fmt.Sprintf("no answer on TCP port %d of %s: check the address, the route and the password", port, router)
	case is(unix.ECONNREFUSED):
		return fmt.Sprintf("%s refuses connections to TCP port %d: check that a BGP speaker runs there and listens on that address", router, port)
	case is(unix.EHOSTUNREACH):
		return fmt.Sprintf("%s cannot be reached: it does not answer on its link, or a router on the way has no route", router)
	case is(unix.ENETUNREACH):
		return fmt.Sprintf("no route to %s", router)
	case is(unix.EADDRNOTAVAIL):
		return fmt.Sprintf("cannot dial from %s: this node does not have that address (sourceAddress)", p.Session.Source)
	default:
		return fmt.Sprintf("cannot connect to %s: %s", router, text)
	}
}

// sentWords says why this side ended a session with a NOTIFICATION.
func sentWords(code, subcode uint8, s *session) (Failure, string) {
	p := s.peer
	switch {
	case code == bgp.BGP_ERROR_OPEN_MESSAGE_ERROR && subcode == bgp.BGP_ERROR_SUB_BAD_PEER_AS:
		return FailedSent, fmt.Sprintf("wrong ASN: the router is not in AS %d, correct peerASN (sent NOTIFICATION OPEN Message Error/Bad Peer AS)", p.Session.PeerASN)
	case code == bgp.BGP_ERROR_OPEN_MESSAGE_ERROR && subcode == bgp.BGP_ERROR_SUB_BAD_BGP_IDENTIFIER:
		return FailedSent, "the router has the same BGP identifier as this node (sent NOTIFICATION OPEN Message Error/Bad BGP Identifier)"
	case code == bgp.BGP_ERROR_FSM_ERROR:
		return FailedReceived, refusedWords(p) // gobgp's answer to a NOTIFICATION in place of an OPEN
	case code == bgp.BGP_ERROR_HOLD_TIMER_EXPIRED && s.State == openSent:
		return FailedHoldTimer, fmt.Sprintf("%s accepted the connection and sent no OPEN for 4 minutes", p.Session.Address.Addr())
	case code == bgp.BGP_ERROR_HOLD_TIMER_EXPIRED:
		return FailedHoldTimer, holdWords(p)
	case code == bgp.BGP_ERROR_CEASE && subcode == bgp.BGP_ERROR_SUB_MAXIMUM_NUMBER_OF_PREFIXES_REACHED:
		return FailedPrefixLimit, fmt.Sprintf("the router sent more than %d routes of one family, which are of no use here: have it send none (or few), or raise maxPrefixes; it is tried again each minute", p.Session.MaxPrefixes)
	default:
		return FailedSent, "what the router sent is not right: sent NOTIFICATION " + notification(code, subcode)
	}
}

// receivedWords says why the router ended a session with a NOTIFICATION.
func receivedWords(code, subcode uint8, communication string, p plan.Peer) string {
	words := "the router closed the session: NOTIFICATION " + notification(code, subcode)
	if code == bgp.BGP_ERROR_OPEN_MESSAGE_ERROR && subcode == bgp.BGP_ERROR_SUB_BAD_PEER_AS {
		words = fmt.Sprintf("wrong ASN: the router does not expect AS %d of this node, correct localASN or the router (received NOTIFICATION OPEN Message Error/Bad Peer AS)", p.Session.LocalASN)
	}
	if communication != "" {
		words += fmt.Sprintf(", %q", communication) // RFC 9003
	}
	return words
}

// refusedWords is about a router that answered our OPEN by a NOTIFICATION. gobgp does not pass its code on.
func refusedWords(p plan.Peer) string {
	return fmt.Sprintf("the router refused this node's OPEN with a NOTIFICATION, most often because it does not expect AS %d: correct localASN or the router, whose log says why", p.Session.LocalASN)
}

// closedWords is about a router that accepted the connection and closed it without a BGP message.
func closedWords(p plan.Peer) string {
	return fmt.Sprintf("%s accepted the connection and closed it at once: check that it has this node's address as a neighbor", p.Session.Address.Addr())
}

func holdWords(p plan.Peer) string {
	return fmt.Sprintf("hold timer expired: nothing was heard of the router for the hold time (at most %d s)", p.Session.HoldTime)
}

// silentWords is about a router that accepted the connection and sends no OPEN.
func silentWords(p plan.Peer) string {
	words := fmt.Sprintf("%s accepted the connection and does not send an OPEN", p.Session.Address.Addr())
	if p.Session.MinTTL > 0 {
		words += ": check that it sends with TTL 255 (ttlSecurityHops)"
	}
	return words
}

// pathWords is about a path that BFD does not find to be up.
func pathWords(p plan.Peer) string {
	return fmt.Sprintf("BFD says that the path to %s is not up", p.Session.Address.Addr())
}

// downWords says why an established session ended.
func downWords(reason api.PeerState_DisconnectReason, message string, p plan.Peer) (Failure, string) {
	switch reason {
	case api.PeerState_DISCONNECT_REASON_HOLD_TIMER_EXPIRED:
		return FailedHoldTimer, holdWords(p)
	case api.PeerState_DISCONNECT_REASON_NOTIFICATION_RECEIVED:
		return FailedReceived, "the router closed the session: " + message
	case api.PeerState_DISCONNECT_REASON_READ_FAILED, api.PeerState_DISCONNECT_REASON_WRITE_FAILED, api.PeerState_DISCONNECT_REASON_GRACEFUL_RESTART:
		return FailedConnectionLost, "the connection broke"
	default:
		return FailedConnectionLost, "session down: " + message
	}
}

// notification writes a code as "CODE/SUBCODE", by the names of IANA's registry of BGP error codes where it matters.
func notification(code, subcode uint8) string {
	names := map[uint8]string{1: "Message Header Error", 2: "OPEN Message Error", 3: "UPDATE Message Error", 4: "Hold Timer Expired", 5: "Finite State Machine Error", 6: "Cease", 7: "ROUTE-REFRESH Message Error"}
	cease := map[uint8]string{1: "Maximum Number of Prefixes Reached", 2: "Administrative Shutdown", 3: "Peer De-configured", 4: "Administrative Reset", 5: "Connection Rejected", 6: "Other Configuration Change", 7: "Connection Collision Resolution", 8: "Out of Resources", 9: "Hard Reset", 10: "BFD Down"}
	name := names[code]
	if name == "" {
		name = fmt.Sprintf("code %d", code)
	}
	if sub := cease[subcode]; code == bgp.BGP_ERROR_CEASE && sub != "" {
		return name + "/" + sub
	}
	return fmt.Sprintf("%s/subcode %d", name, subcode)
}
