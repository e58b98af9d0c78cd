package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// VIP is one address in use. It is the lock (its name is its address, and creating an object is atomic: no address is
// given twice), the record (the address survives whatever happens to the Service's status) and the view (who announces
// it). The controller writes it; people read it, and make one themselves only to reserve an address: with spec.reservedFor
// for a Service that need not exist yet, without it for nobody.
//
// An IPv4 VIP is named by its address, an IPv6 one by all 32 digits with '-' for ':' (object names have no colons).
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=seamark
// +kubebuilder:validation:XValidation:rule="self.metadata.name == self.spec.address || (self.metadata.name.size() == 39 && isIP(self.metadata.name.replace('-', ':')) && isIP(self.spec.address) && ip(self.metadata.name.replace('-', ':')) == ip(self.spec.address))",message="the name must be the address, for IPv6 all 32 digits with '-' for ':' (the name is what keeps an address from being given twice)"
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.address`
// +kubebuilder:printcolumn:name="Pool",type=string,JSONPath=`.spec.pool`
// +kubebuilder:printcolumn:name="Services",type=string,JSONPath=`.spec.usedBy`
// +kubebuilder:printcolumn:name="Owner",type=string,JSONPath=`.status.owner`
// +kubebuilder:printcolumn:name="BGP",type=string,JSONPath=`.status.bgp`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Duplicate at",type=string,priority=1,JSONPath=`.status.duplicates[0].mac`
// +kubebuilder:printcolumn:name="Reserved for",type=string,priority=1,JSONPath=`.spec.reservedFor.name`
// +kubebuilder:printcolumn:name="In namespace",type=string,priority=1,JSONPath=`.spec.reservedFor.namespace`
// +kubebuilder:printcolumn:name="Sharing key",type=string,priority=1,JSONPath=`.spec.sharing.key`
type VIP struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec VIPSpec `json:"spec"`
	// +optional
	Status VIPStatus `json:"status,omitempty"`
}

// VIPList is a list of VIPs.
//
// +kubebuilder:object:root=true
type VIPList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []VIP `json:"items"`
}

// VIPSpec is written by the controller, apart from reservations: a node serves an address only for the Services, and the
// ports of them, that are named here.
type VIPSpec struct {
	// Address in its canonical text form (RFC 5952).
	//
	// +required
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self) && ip.isCanonical(self)",message="must be an address in canonical form, such as 192.0.2.7 or 2001:db8::7"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the address of a VIP cannot change: create another VIP"
	Address string `json:"address"`
	// Pool that the address came from.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Pool string `json:"pool,omitempty"`
	// Services that use the address.
	//
	// +optional
	// +listType=map
	// +listMapKey=namespace
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=256
	Services []VIPService `json:"services,omitempty"`
	// UsedBy is Services as text, "namespace/name,…": a column of kubectl shows one value.
	//
	// +optional
	UsedBy string `json:"usedBy,omitempty"`
	// Sharing are the terms on which several Services use the address; absent when one has it for itself.
	//
	// +optional
	Sharing *VIPSharing `json:"sharing,omitempty"`
	// ReservedFor names the Service that gets the address, and that keeps it while it does not exist. A VIP that has
	// neither Services nor ReservedFor keeps the address from everybody.
	//
	// +optional
	ReservedFor *ServiceReference `json:"reservedFor,omitempty"`
}

// VIPService is a Service that uses the address.
type VIPService struct {
	ServiceReference `json:",inline"`
	// Ports that it has at the address, as "443/TCP"; none: all its ports. Where Services share an address each has its
	// own, so that none can take a port from another by changing its spec.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=10
	Ports []string `json:"ports,omitempty"`
}

// VIPSharing are the terms on which Services share an address.
type VIPSharing struct {
	// Key is the annotation seamark.io/sharing-key of all of them.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
	// Selector of the pods of all of them, as "app=web,tier=front", if their externalTrafficPolicy is Local; traffic
	// arrives only where such a pod is.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Selector string `json:"selector,omitempty"`
}

// ServiceReference names a Service.
type ServiceReference struct {
	// +required
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`
	// +required
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
}

// VIPStatus is who announces the address. Owner, Announcers and Duplicates are written by the nodes, BGP and Conditions by the
// controller from these: a column of kubectl shows one value, and a condition has one writer.
type VIPStatus struct {
	// Owner is the node that answers ARP or NDP for the address.
	//
	// +optional
	Owner string `json:"owner,omitempty"`
	// BGP are the nodes that announce the address to routers, as "node1,node2".
	//
	// +optional
	BGP string `json:"bgp,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=node
	// +listMapKey=via
	Announcers []Announcer `json:"announcers,omitempty"`
	// Duplicates are stations that use the address as well and are none of the cluster's nodes, as its owner saw them on
	// the segment. An entry goes when the station has been silent for some minutes.
	//
	// +optional
	// +listType=map
	// +listMapKey=node
	Duplicates []Duplicate `json:"duplicates,omitempty"`
	// Conditions: DuplicateAddress is True while Duplicates names a station. A VIP of which that was never so has none.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Condition of a VIP, and its reasons.
const (
	VIPDuplicateAddress = "DuplicateAddress"

	VIPReasonStationSeen  = "StationSeen"
	VIPReasonNoStation    = "NoStation"
	VIPReasonNodeNotReady = "NodeNotReady"
)

// Duplicate is a station that uses an address of ours.
type Duplicate struct {
	// Node that saw it.
	//
	// +required
	Node string `json:"node"`
	// MAC is the station's Ethernet address.
	//
	// +required
	MAC string `json:"mac"`
	// Interface of the node by which it saw it.
	//
	// +optional
	Interface string `json:"interface,omitempty"`
	// Since when.
	//
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
}

// Announcer is one node that announces the address in one way.
type Announcer struct {
	// +required
	Node string `json:"node"`
	// +required
	// +kubebuilder:validation:Enum=ARP;NDP;BGP
	Via string `json:"via"`
	// Since when.
	//
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
}

// Ways of announcing, the values of Announcer.Via.
const (
	ViaARP = "ARP"
	ViaNDP = "NDP"
	ViaBGP = "BGP"
)
