package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// VIP is one address in use. It is the lock (its name is its address, and creating an object is atomic: no address is
// given twice), the record (the address survives whatever happens to the Service's status) and the view (who announces
// it). The controller writes it; people read it.
//
// An IPv4 VIP is named by its address, an IPv6 one by all 32 digits with '-' for ':' (object names have no colons).
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=seamark
// +kubebuilder:validation:XValidation:rule="self.metadata.name == self.spec.address || (self.metadata.name.size() == 39 && isIP(self.metadata.name.replace('-', ':')) && isIP(self.spec.address) && ip(self.metadata.name.replace('-', ':')) == ip(self.spec.address))",message="the name must be the address, for IPv6 all 32 digits with '-' for ':' (the name is what keeps an address from being given twice)"
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.address`
// +kubebuilder:printcolumn:name="Pool",type=string,JSONPath=`.spec.pool`
// +kubebuilder:printcolumn:name="Services",type=string,JSONPath=`.status.services`
// +kubebuilder:printcolumn:name="Owner",type=string,JSONPath=`.status.owner`
// +kubebuilder:printcolumn:name="BGP",type=string,JSONPath=`.status.bgp`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
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

// VIPSpec is written by the controller alone: a node serves an address only for the Services that are named here.
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
	Services []ServiceReference `json:"services,omitempty"`
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

// VIPStatus is who announces the address. Announcers is written by the nodes, the rest by the controller from it: a
// printer column shows a single value.
type VIPStatus struct {
	// Services as "namespace/name,…".
	//
	// +optional
	Services string `json:"services,omitempty"`
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
