package plan

import "fmt"

// Code of a Reason, in the form of an event's reason.
type Code string

// Why no node announces a VIP.
const (
	// Reserved: the VIP names no Service.
	Reserved Code = "Reserved"
	// ServiceNotFound: none of the Services that the VIP names exists.
	ServiceNotFound Code = "ServiceNotFound"
	// NotLoadBalancer: the Service is not of type LoadBalancer (any more).
	NotLoadBalancer Code = "NotLoadBalancer"
	// NotInStatus: the Service's status does not have the address (yet).
	NotInStatus Code = "NotInStatus"
	// NodeAddress: the address is a node's own.
	NodeAddress Code = "NodeAddress"
	// PoolGone: the pool that says how the address is announced was removed.
	PoolGone Code = "PoolGone"
	// NoEndpoints: nothing could serve.
	NoEndpoints Code = "NoEndpoints"
)

// Why this node does not announce a VIP.
const (
	// NodeNotFound: this node has no Node object (yet).
	NodeNotFound Code = "NodeNotFound"
	// NodeCannotAnnounce: the node is not ready or is excluded.
	NodeCannotAnnounce Code = "NodeCannotAnnounce"
	// NodeNotSelected: the pool's node selector leaves the node out.
	NodeNotSelected Code = "NodeNotSelected"
	// NoLocalEndpoint: externalTrafficPolicy is Local and no ready endpoint is on this node.
	NoLocalEndpoint Code = "NoLocalEndpoint"
)

// Why this node does not announce a VIP by ARP or NDP.
const (
	// NoSubnet: no interface has an address in a subnet that holds the VIP.
	NoSubnet Code = "NoSubnet"
	// InterfaceNotAllowed: the pool does not name the interface.
	InterfaceNotAllowed Code = "InterfaceNotAllowed"
	// InterfaceDown: the interface is down or has no carrier.
	InterfaceDown Code = "InterfaceDown"
	// SubnetAddress: the address is the subnet's network or broadcast address.
	SubnetAddress Code = "SubnetAddress"
	// NotCandidate: the node's InternalIPs are in other subnets, so the other nodes do not reckon with it.
	NotCandidate Code = "NotCandidate"
	// NotAlive: the other nodes of the segment do not hear this one, or it drains.
	NotAlive Code = "NotAlive"
	// NotOwner: another node owns the address.
	NotOwner Code = "NotOwner"
	// NotGranted: it should have the address, and the nodes of the segment have not granted it.
	NotGranted Code = "NotGranted"
)

// Why this node does not announce a VIP by BGP, or has no session.
const (
	// NoPeers: no BGPPeer that the pool allows is for this node.
	NoPeers Code = "NoPeers"
	// NoNextHop: this node has no address of the VIP's family to be the next hop.
	NoNextHop Code = "NoNextHop"
	// NoSession: no session with an allowed peer is established.
	NoSession Code = "NoSession"
	// PasswordNotFound: the BGPPeer's password Secret is missing or empty.
	PasswordNotFound Code = "PasswordNotFound"
	// PasswordTooLong: TCP MD5 keys have at most 80 bytes.
	PasswordTooLong Code = "PasswordTooLong"
	// DuplicatePeer: another BGPPeer has the same address.
	DuplicatePeer Code = "DuplicatePeer"
	// NoASN: this node does not have the label that holds its AS number, or no number in it.
	NoASN Code = "NoASN"
	// NoSource: the interface to dial from has no address of the session's family.
	NoSource Code = "NoSource"
	// NoRouter: no router, or more than one, was heard on the interface.
	NoRouter Code = "NoRouter"
	// Draining: this node is giving its routes up.
	Draining Code = "Draining"
)

// Reason says why not. The zero value is no reason.
type Reason struct {
	Code Code
	// Text is a sentence without a capital and a full stop, and says what to change where that is known.
	Text string
}

func because(code Code, format string, args ...any) Reason {
	return Reason{Code: code, Text: fmt.Sprintf(format, args...)}
}
