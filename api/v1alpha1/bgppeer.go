package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPPeer is a router that the nodes speak BGP (RFC 4271) with.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=peer,categories=seamark
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.peerAddress`
// +kubebuilder:printcolumn:name="ASN",type=integer,JSONPath=`.spec.peerASN`
// +kubebuilder:printcolumn:name="Local ASN",type=integer,JSONPath=`.spec.localASN`
// +kubebuilder:printcolumn:name="Established",type=string,JSONPath=`.status.established`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`
// +kubebuilder:printcolumn:name="Interface",type=string,priority=1,JSONPath=`.spec.interface`
// +kubebuilder:printcolumn:name="Sessions",type=string,priority=1,JSONPath=`.status.sessions`
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec BGPPeerSpec `json:"spec"`
	// +optional
	Status BGPPeerStatus `json:"status,omitempty"`
}

// BGPPeerList is a list of BGPPeers.
//
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BGPPeer `json:"items"`
}

// BGPPeerSpec is what a person wants of a session. Sessions are dialled, never accepted; nothing that a router sends is
// taken in.
//
// +kubebuilder:validation:XValidation:rule="has(self.peerAddress) || has(self.interface)",message="name the router by peerAddress, or by the interface that leads to it"
// +kubebuilder:validation:XValidation:rule="!has(self.peerAddress) || !isIP(self.peerAddress) || ip(self.peerAddress).isLinkLocalUnicast() == has(self.interface)",message="interface belongs to a link-local peerAddress such as fe80::1, and such an address needs one; leave peerAddress out to have the router on the interface found"
// +kubebuilder:validation:XValidation:rule="has(self.localASN) != has(self.localASNFrom)",message="set one of localASN and localASNFrom"
// +kubebuilder:validation:XValidation:rule="!has(self.sourceAddress) || (has(self.peerAddress) && isIP(self.sourceAddress) && isIP(self.peerAddress) && ip(self.sourceAddress).family() == ip(self.peerAddress).family())",message="sourceAddress must be an address of the same family as peerAddress"
// +kubebuilder:validation:XValidation:rule="!has(self.sourceInterface) || (!has(self.sourceAddress) && !has(self.interface))",message="sourceInterface excludes sourceAddress and interface"
// +kubebuilder:validation:XValidation:rule="!has(self.ebgpMultihop) || !has(self.localASN) || self.localASN != self.peerASN",message="ebgpMultihop is for eBGP: leave it out where localASN equals peerASN"
// +kubebuilder:validation:XValidation:rule="!has(self.ebgpMultihop) || !has(self.ttlSecurityHops)",message="set one of ebgpMultihop and ttlSecurityHops: the latter also says how far away the router may be"
// +kubebuilder:validation:XValidation:rule="!has(self.interface) || !has(self.ebgpMultihop)",message="ebgpMultihop does not fit to interface: a link-local address is on the link"
// +kubebuilder:validation:XValidation:rule="!has(self.bfd) || !has(self.ebgpMultihop)",message="bfd watches a router on the link (RFC 5881): it does not fit to ebgpMultihop"
// +kubebuilder:validation:XValidation:rule="!has(self.bfd) || !has(self.ttlSecurityHops) || self.ttlSecurityHops == 1",message="bfd watches a router on the link (RFC 5881): with it ttlSecurityHops can only be 1"
// +kubebuilder:validation:XValidation:rule="!has(self.extendedNextHop) || !has(self.peerAddress) || (isIP(self.peerAddress) && ip(self.peerAddress).family() == 6)",message="extendedNextHop is for sessions over IPv6"
// +kubebuilder:validation:XValidation:rule="!has(self.keepaliveTime) || !has(self.holdTime) || duration(self.keepaliveTime) < duration(self.holdTime)",message="keepaliveTime must be less than holdTime (a third of it is usual)"
type BGPPeerSpec struct {
	// PeerAddress is the router's address. A link-local one needs Interface.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="must be an IPv4 or IPv6 address such as 192.0.2.1 or 2001:db8::1"
	PeerAddress string `json:"peerAddress,omitempty"`
	// Interface of the nodes that leads to the router, for a session between link-local addresses. Without PeerAddress the
	// router is found by its router advertisements (RFC 4861); it must be the only router on the link. Known as unnumbered
	// BGP.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	Interface string `json:"interface,omitempty"`
	// PeerPort is the router's TCP port.
	//
	// +optional
	// +kubebuilder:default=179
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	PeerPort int32 `json:"peerPort,omitempty"`
	// PeerASN is the router's autonomous system number (RFC 6793: four octets).
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967294
	PeerASN int64 `json:"peerASN"`
	// LocalASN is the nodes' autonomous system number. Equal to PeerASN: iBGP.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967294
	LocalASN int64 `json:"localASN,omitempty"`
	// LocalASNFrom takes each node's autonomous system number from its Node object, in place of LocalASN.
	//
	// +optional
	LocalASNFrom *ASNSource `json:"localASNFrom,omitempty"`
	// SourceAddress to dial from. Absent: the node's InternalIP if that is in the router's subnet, otherwise the kernel
	// chooses by route.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=45
	SourceAddress string `json:"sourceAddress,omitempty"`
	// SourceInterface is an interface whose first address of the session's family is dialled from, such as lo.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	SourceInterface string `json:"sourceInterface,omitempty"`
	// HoldTime after which a silent router is given up; the lower of both sides' holds (RFC 4271 section 4.2).
	//
	// +optional
	// +kubebuilder:default="90s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('3s') && duration(self) <= duration('65535s')",message="must be between 3s and 65535s (RFC 4271)"
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`
	// KeepaliveTime between keepalives. Absent: a third of HoldTime. With a router whose hold time is lower than HoldTime it is a
	// third of the router's.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="must be at least 1s"
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`
	// ConnectRetryTime between attempts to reach the router; each may come up to a quarter earlier, at random.
	//
	// +optional
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('2s') && duration(self) <= duration('65535s')",message="must be between 2s and 65535s"
	ConnectRetryTime *metav1.Duration `json:"connectRetryTime,omitempty"`
	// GracefulRestartTime is how long the router is asked to keep the routes of an agent that restarts (RFC 4724), while
	// the node's kernel goes on forwarding. 0s: not at all, a restart withdraws the routes.
	//
	// +optional
	// +kubebuilder:default="120s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('4095s')",message="must be between 0s and 4095s (RFC 4724)"
	GracefulRestartTime *metav1.Duration `json:"gracefulRestartTime,omitempty"`
	// EBGPMultihop is the TTL of packets to an eBGP router that is not on a node's link. Absent: the router is on the link.
	//
	// +optional
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=255
	EBGPMultihop *int32 `json:"ebgpMultihop,omitempty"`
	// TTLSecurityHops is how many hops away the router may be, 1 on the link: packets that came farther are dropped by the
	// kernel (GTSM, RFC 5082). The router must send with TTL 255 ("ttl security" in BIRD, "ttl-security" in FRR). Absent:
	// not checked; packets to an eBGP router on the link have TTL 255 in any case, so that it may check.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=254
	TTLSecurityHops *int32 `json:"ttlSecurityHops,omitempty"`
	// ExtendedNextHop announces IPv4 addresses with this node's IPv6 address as next hop (RFC 8950), to a router that can.
	// Absent: true with Interface, otherwise false.
	//
	// +optional
	ExtendedNextHop *bool `json:"extendedNextHop,omitempty"`
	// MaxPrefixes of each family that the router may send. What it sends is not used but has to be held; a session with
	// more is ended and tried again a minute later.
	//
	// +optional
	// +kubebuilder:default=20000
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MaxPrefixes int32 `json:"maxPrefixes,omitempty"`
	// PasswordSecretRef names a Secret in Seamark's namespace whose key "password" holds the session's TCP MD5
	// password (RFC 2385).
	//
	// +optional
	PasswordSecretRef *SecretReference `json:"passwordSecretRef,omitempty"`
	// BFD watches the path to the router (RFC 5880, RFC 5881). Absent: no BFD.
	//
	// +optional
	BFD *BFDSpec `json:"bfd,omitempty"`
	// NodeSelector limits the nodes that speak to this router. Absent: all.
	//
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
}

// ASNSource says where a node's autonomous system number is found.
type ASNSource struct {
	// NodeLabel is the key of a label of the Node whose value is the number. A node without it has no session.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	NodeLabel string `json:"nodeLabel"`
}

// BFDSpec are the parameters of a BFD session. The router's are negotiated against them: the slower of both counts.
type BFDSpec struct {
	// MinTransmitInterval between packets to the router.
	//
	// +optional
	// +kubebuilder:default="50ms"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('60s')",message="must be between 10ms and 60s"
	MinTransmitInterval *metav1.Duration `json:"minTransmitInterval,omitempty"`
	// MinReceiveInterval is how often the router may send.
	//
	// +optional
	// +kubebuilder:default="50ms"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('60s')",message="must be between 10ms and 60s"
	MinReceiveInterval *metav1.Duration `json:"minReceiveInterval,omitempty"`
	// DetectMultiplier is how many packets in a row may be lost.
	//
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=255
	DetectMultiplier int32 `json:"detectMultiplier,omitempty"`
	// Strict keeps the BGP session down until BFD is up. Otherwise BFD ends a session when it goes down after it was up,
	// and a router without BFD is no obstacle.
	//
	// +optional
	Strict bool `json:"strict,omitempty"`
}

// SecretReference names a Secret in Seamark's namespace.
type SecretReference struct {
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// BGPPeerStatus is the state of the sessions. Nodes is written by the nodes, the rest by the controller from it.
type BGPPeerStatus struct {
	// Established of Configured nodes, as "2/3".
	//
	// +optional
	Established string `json:"established,omitempty"`
	// Message says in words what is wrong with the BGPPeer or with the sessions that are not established.
	//
	// +optional
	Message string `json:"message,omitempty"`
	// Sessions is Nodes for people, as "node1 Established since 2026-07-01T10:00:00Z, 12 prefixes; …".
	//
	// +optional
	Sessions string `json:"sessions,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=node
	Nodes []BGPPeerNode `json:"nodes,omitempty"`
}

// BGPPeerNode is one node's session.
type BGPPeerNode struct {
	// +required
	Node string `json:"node"`
	// State of RFC 4271 section 8.2.2.
	//
	// +required
	// +kubebuilder:validation:Enum=Idle;Connect;Active;OpenSent;OpenConfirm;Established
	State string `json:"state"`
	// Since when the session is in a state of being established, or of not being it.
	//
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// LastError in words; empty when established.
	//
	// +optional
	LastError string `json:"lastError,omitempty"`
	// BFD is the state of RFC 5880 section 6.2 of the BFD session with the router, as "Up (3 x 50ms)": the router takes the node
	// for lost when it misses three packets, 50 ms apart. In other states with what is wrong where that is known; empty without BFD.
	//
	// +optional
	BFD string `json:"bfd,omitempty"`
	// PrefixesSent to the router.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2147483647
	PrefixesSent int32 `json:"prefixesSent"`
}

// BGPEstablished is the value of BGPPeerNode.State for a session that exchanges routes.
const BGPEstablished = "Established"
