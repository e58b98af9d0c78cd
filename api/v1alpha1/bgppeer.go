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

// BGPPeerSpec is what a person wants of a session. Sessions are dialled, never accepted.
//
// +kubebuilder:validation:XValidation:rule="!has(self.sourceAddress) || (isIP(self.sourceAddress) && isIP(self.peerAddress) && ip(self.sourceAddress).family() == ip(self.peerAddress).family())",message="sourceAddress must be an address of the same family as peerAddress"
// +kubebuilder:validation:XValidation:rule="!has(self.ebgpMultihop) || self.localASN != self.peerASN",message="ebgpMultihop is for eBGP: leave it out where localASN equals peerASN"
// +kubebuilder:validation:XValidation:rule="!has(self.keepaliveTime) || !has(self.holdTime) || duration(self.keepaliveTime) < duration(self.holdTime)",message="keepaliveTime must be less than holdTime (a third of it is usual)"
type BGPPeerSpec struct {
	// PeerAddress is the router's address.
	//
	// +required
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="must be an IPv4 or IPv6 address such as 192.0.2.1 or 2001:db8::1"
	PeerAddress string `json:"peerAddress"`
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
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967294
	LocalASN int64 `json:"localASN"`
	// SourceAddress to dial from. Absent: the kernel chooses by route.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=45
	SourceAddress string `json:"sourceAddress,omitempty"`
	// HoldTime after which a silent router is given up; the lower of both sides' holds (RFC 4271 section 4.2).
	//
	// +optional
	// +kubebuilder:default="90s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('3s') && duration(self) <= duration('65535s')",message="must be between 3s and 65535s (RFC 4271)"
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`
	// KeepaliveTime between keepalives. Absent: a third of HoldTime.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="must be at least 1s"
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`
	// ConnectRetryTime between attempts to reach the router.
	//
	// +optional
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('65535s')",message="must be between 1s and 65535s"
	ConnectRetryTime *metav1.Duration `json:"connectRetryTime,omitempty"`
	// EBGPMultihop is the TTL of packets to an eBGP router that is not on a node's link. Absent: 1, on the link.
	//
	// +optional
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=255
	EBGPMultihop *int32 `json:"ebgpMultihop,omitempty"`
	// PasswordSecretRef names a Secret in Seamark's namespace whose key "password" holds the session's TCP MD5
	// password (RFC 2385).
	//
	// +optional
	PasswordSecretRef *SecretReference `json:"passwordSecretRef,omitempty"`
	// NodeSelector limits the nodes that speak to this router. Absent: all.
	//
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
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
	// Message says in words what is wrong with the sessions that are not established.
	//
	// +optional
	Message string `json:"message,omitempty"`
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
	// PrefixesSent to the router.
	//
	// +optional
	PrefixesSent int32 `json:"prefixesSent"`
}

// BGPEstablished is the value of BGPPeerNode.State for a session that exchanges routes.
const BGPEstablished = "Established"
