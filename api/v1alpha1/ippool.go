package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPPool is a set of addresses that Services of type LoadBalancer are served from, and how they are announced.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=pool,categories=seamark
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.status.addressesText`
// +kubebuilder:printcolumn:name="Auto",type=boolean,JSONPath=`.spec.autoAssign`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.spec.state`
// +kubebuilder:printcolumn:name="Used",type=integer,JSONPath=`.status.used`
// +kubebuilder:printcolumn:name="Free",type=string,JSONPath=`.status.freeText`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Priority",type=integer,priority=1,JSONPath=`.spec.priority`
// +kubebuilder:printcolumn:name="Reclaim",type=string,priority=1,JSONPath=`.spec.reclaimPolicy`
// +kubebuilder:printcolumn:name="Reserved",type=integer,priority=1,JSONPath=`.status.reserved`
// +kubebuilder:printcolumn:name="Overlaps",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Overlaps")].message`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type IPPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec IPPoolSpec `json:"spec"`
	// +optional
	Status IPPoolStatus `json:"status,omitempty"`
}

// IPPoolList is a list of IPPools.
//
// +kubebuilder:object:root=true
type IPPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPPool `json:"items"`
}

// IPPoolSpec is what a person wants of a pool.
type IPPoolSpec struct {
	// Addresses of the pool, of both families: prefixes ("192.0.2.0/28", "2001:db8::/112") and ranges, both ends
	// included ("192.0.2.10-192.0.2.20"). A single address is a prefix of full length ("192.0.2.7/32"). Entries must
	// not overlap each other: such a pool gets the condition Ready=False and gives nothing out. What overlaps with an
	// older pool, with the addresses of nodes, pods or Services, or with a default gateway is not given out; the
	// condition Overlaps names the other side.
	//
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=128
	// +kubebuilder:validation:items:MaxLength=100
	// +kubebuilder:validation:XValidation:rule="self.all(a, a.contains('-') || isCIDR(a))",message="each entry must be a prefix such as 192.0.2.0/28 or 2001:db8::/112 (length at most 32 or 128; a single address has the full length: 192.0.2.7/32), or a range such as 192.0.2.10-192.0.2.20"
	// +kubebuilder:validation:XValidation:rule="self.all(a, !isCIDR(a) || cidr(a) == cidr(a).masked())",message="a prefix must have no bits set behind its length: 192.0.2.16/28, not 192.0.2.20/28; a single address is written 192.0.2.20/32"
	// +kubebuilder:validation:XValidation:rule="self.all(a, !a.contains('-') || (a.split('-').size() == 2 && a.split('-').all(i, isIP(i))))",message="a range is two addresses with one '-' between them and no spaces, such as 192.0.2.10-192.0.2.20"
	// +kubebuilder:validation:XValidation:rule="self.all(a, !a.contains('-') || a.split('-').size() != 2 || !a.split('-').all(i, isIP(i)) || ip(a.split('-')[0]).family() == ip(a.split('-')[1]).family())",message="both ends of a range must be of one family: write one range for IPv4 and one for IPv6"
	Addresses []string `json:"addresses"`

	// Priority orders pools for Services that ask for none: the lowest first. Of equal ones a pool with a selector comes before
	// one without, then one that has all the families that the Service wants before one that has not, then the name decides.
	//
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=-2147483648
	// +kubebuilder:validation:Maximum=2147483647
	Priority int32 `json:"priority"`

	// AutoAssign is false for a pool that is used only by Services that name it (annotation seamark.io/pool) or one of
	// its addresses.
	//
	// +optional
	// +kubebuilder:default=true
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// State is Active, or Draining for a pool that gives out nothing new, while what is in use stays.
	//
	// +optional
	// +kubebuilder:default=Active
	// +kubebuilder:validation:Enum=Active;Draining
	State PoolState `json:"state,omitempty"`

	// ReclaimPolicy says what becomes of an address when the last Service that uses it goes: Delete gives it back to the
	// pool; Retain keeps it for a Service of the same namespace and name, until somebody deletes the VIP.
	//
	// +optional
	// +kubebuilder:default=Delete
	// +kubebuilder:validation:Enum=Delete;Retain
	ReclaimPolicy ReclaimPolicy `json:"reclaimPolicy,omitempty"`

	// AvoidBuggyIPs leaves out the IPv4 addresses that end in .0 and .255, which some old devices refuse to talk to.
	//
	// +optional
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`

	// NamespaceSelector limits the pool to Services in namespaces with matching labels. Absent: all.
	//
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`

	// ServiceSelector limits the pool to Services with matching labels. Absent: all.
	//
	// +optional
	ServiceSelector *metav1.LabelSelector `json:"serviceSelector,omitempty"`

	// Announce says how the network learns of the pool's addresses. Absent: by ARP and NDP where an address lies in
	// the subnet of a node's interface, and by BGP to every BGPPeer.
	//
	// +optional
	Announce *Announce `json:"announce,omitempty"`

	// Ping is false where the pool's addresses should not answer an ICMP echo.
	//
	// +optional
	// +kubebuilder:default=true
	Ping *bool `json:"ping,omitempty"`
}

// PoolState says whether a pool gives out addresses.
type PoolState string

// The states of a pool.
const (
	PoolActive   PoolState = "Active"
	PoolDraining PoolState = "Draining"
)

// ReclaimPolicy says what becomes of an address that no Service uses any more.
type ReclaimPolicy string

// The reclaim policies.
const (
	ReclaimDelete ReclaimPolicy = "Delete"
	ReclaimRetain ReclaimPolicy = "Retain"
)

// Announce names the ways an address is announced; a way that is absent is not used.
//
// +kubebuilder:validation:XValidation:rule="has(self.arp) || has(self.bgp)",message="name at least one of arp and bgp, or leave announce out for both"
type Announce struct {
	// ARP announces by ARP (IPv4) and NDP (IPv6): one node at a time owns an address.
	//
	// +optional
	ARP *ARPAnnounce `json:"arp,omitempty"`
	// BGP announces to routers: every node that can forward announces an address.
	//
	// +optional
	BGP *BGPAnnounce `json:"bgp,omitempty"`
}

// ARPAnnounce limits where addresses are announced by ARP and NDP.
type ARPAnnounce struct {
	// Interfaces by name; absent: every interface with an address in the same subnet.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=15
	Interfaces []string `json:"interfaces,omitempty"`
	// NodeSelector limits the nodes that may own an address. Absent: all.
	//
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
	// NodePreferences say which of these nodes should own the addresses: those whose matching weights add up to the most.
	// The others own one only while none of the preferred can. Absent: all alike.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	NodePreferences []NodePreference `json:"nodePreferences,omitempty"`
	// PartitionPolicy says what nodes do that are cut off from the majority of their segment. Fence: they stop answering,
	// so that an address does not have two owners. Serve: the owner among those that hear each other answers, on each side
	// of the cut; right where the clients on each side can reach only that side.
	//
	// +optional
	// +kubebuilder:default=Fence
	// +kubebuilder:validation:Enum=Fence;Serve
	PartitionPolicy PartitionPolicy `json:"partitionPolicy,omitempty"`
}

// NodePreference adds a weight to nodes.
type NodePreference struct {
	// Weight of the nodes that match.
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`
	// NodeSelector says which nodes have the weight.
	//
	// +required
	NodeSelector metav1.LabelSelector `json:"nodeSelector"`
}

// PartitionPolicy says what happens when a segment falls apart.
type PartitionPolicy string

// The partition policies.
const (
	PartitionFence PartitionPolicy = "Fence"
	PartitionServe PartitionPolicy = "Serve"
)

// BGPAnnounce limits where addresses are announced by BGP, and with which attributes: either by the fields of one
// advertisement, or by a list of them.
//
// +kubebuilder:validation:XValidation:rule="!has(self.advertisements) || !(has(self.peers) || has(self.communities) || has(self.largeCommunities) || has(self.extendedCommunities) || has(self.localPref) || has(self.med) || has(self.prepend) || has(self.aggregationLength) || has(self.aggregationLengthV6))",message="write peers and attributes into each of the advertisements, not beside them"
type BGPAnnounce struct {
	BGPAdvertisement `json:",inline"`
	// Advertisements in place of a single one, where routers should get different attributes. A router that several of
	// them are for gets the route of each; where that is the same prefix, the first one counts.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Advertisements []BGPAdvertisement `json:"advertisements,omitempty"`
	// NodeSelector limits the nodes that announce. Absent: all.
	//
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
}

// BGPAdvertisement says which routers learn of a pool's addresses, and with which path attributes.
type BGPAdvertisement struct {
	// Peers by name of their BGPPeer; absent: all.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=253
	Peers []string `json:"peers,omitempty"`
	// Communities (RFC 1997) in the form 64512:100, or by name: no-export, no-advertise, no-export-subconfed, no-peer,
	// graceful-shutdown, blackhole.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=63
	// +kubebuilder:validation:items:Pattern=`^([0-9]{1,5}:[0-9]{1,5}|no-export|no-advertise|no-export-subconfed|no-peer|graceful-shutdown|blackhole)$`
	// +kubebuilder:validation:XValidation:rule="self.all(c, !c.contains(':') || c.split(':').all(n, int(n) <= 65535))",message="a community is two numbers of 0 to 65535, such as 64512:100"
	// +kubebuilder:validation:items:MaxLength=19
	Communities []string `json:"communities,omitempty"`
	// LargeCommunities (RFC 8092) in the form 4200000000:1:2.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=63
	// +kubebuilder:validation:items:Pattern=`^[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$`
	// +kubebuilder:validation:items:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.all(c, c.split(':').all(n, int(n) <= 4294967295))",message="a large community is three numbers of 0 to 4294967295, such as 4200000000:1:2"
	// +kubebuilder:validation:XValidation:rule="self.all(c, !c.startsWith('4294967295:'))",message="large communities of AS 4294967295 are reserved (RFC 7300)"
	LargeCommunities []string `json:"largeCommunities,omitempty"`
	// ExtendedCommunities (RFC 4360) in the form rt:64512:100 (route target), soo:64512:100 (site of origin) or
	// lb:64512:125000000 (link bandwidth, in bytes per second). The first number may be an AS number of two or four octets
	// (two for lb), or an IPv4 address.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=63
	// +kubebuilder:validation:items:Pattern=`^(rt|soo|lb):([0-9]{1,10}|[0-9]{1,3}(\.[0-9]{1,3}){3}):[0-9]{1,10}$`
	// +kubebuilder:validation:items:MaxLength=30
	ExtendedCommunities []string `json:"extendedCommunities,omitempty"`
	// LocalPref is the LOCAL_PREF that iBGP peers get. Absent: 100.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	LocalPref *int64 `json:"localPref,omitempty"`
	// MED is the MULTI_EXIT_DISC: of several links to the nodes, a router prefers that with the lowest.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MED *int64 `json:"med,omitempty"`
	// Prepend is how many times more than once the local AS number stands in the AS_PATH that eBGP peers get.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16
	Prepend int32 `json:"prepend,omitempty"`
	// AggregationLength of IPv4: in place of an address, the prefix of this length that covers it is announced as long as
	// the node announces any address in it. Absent: 32, each address for itself.
	//
	// +optional
	// +kubebuilder:validation:Minimum=8
	// +kubebuilder:validation:Maximum=32
	AggregationLength *int32 `json:"aggregationLength,omitempty"`
	// AggregationLengthV6 is the same of IPv6. Absent: 128.
	//
	// +optional
	// +kubebuilder:validation:Minimum=16
	// +kubebuilder:validation:Maximum=128
	AggregationLengthV6 *int32 `json:"aggregationLengthV6,omitempty"`
}

// IPPoolStatus is what the controller knows of a pool, and what nodes found in it that is theirs. Counts are of both
// families together and capped at 2^63-1.
type IPPoolStatus struct {
	// Total is the number of addresses that the pool has given out or can give out: Used, Reserved and Free together.
	//
	// +optional
	Total int64 `json:"total"`
	// Used is the number of addresses from the pool that Services use, also those that it would not give out any more: the
	// offenders.
	//
	// +optional
	Used int64 `json:"used"`
	// Reserved is the number of addresses that have a VIP without Services.
	//
	// +optional
	Reserved int64 `json:"reserved"`
	// Free is the number of addresses that the pool can give out now.
	//
	// +optional
	Free int64 `json:"free"`
	// AddressesText is spec.addresses for people: "192.0.2.0/28,2001:db8::/112", and how many more.
	//
	// +optional
	AddressesText string `json:"addressesText,omitempty"`
	// FreeText is Free of each family, for people: "13 IPv4, ~2^48 IPv6".
	//
	// +optional
	FreeText string `json:"freeText,omitempty"`
	// +optional
	IPv4 *AddressCounts `json:"ipv4,omitempty"`
	// +optional
	IPv6 *AddressCounts `json:"ipv6,omitempty"`

	// Offenders are addresses from the pool that Services use, or that are kept for one, although the pool would not give them
	// out any more: because they are not among its addresses, are somebody else's as well or are left out by avoidBuggyIPs, or
	// because the pool is being deleted or not valid. The lowest come first, at most 100. They keep working.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	// +kubebuilder:validation:MaxItems=100
	Offenders []PoolOffender `json:"offenders,omitempty"`

	// NodeAddresses are the pool's addresses that nodes found on their interfaces, as their default gateway, or as the
	// network or broadcast address of a subnet that they are in. Nodes write them.
	//
	// +optional
	// +listType=map
	// +listMapKey=node
	// +listMapKey=address
	NodeAddresses []NodeAddress `json:"nodeAddresses,omitempty"`

	// ObservedGeneration is the generation of the spec that this status speaks of.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Ready is False, with the reason and what to change, when the pool gives nothing out; Overlaps is True
	// when some of its addresses are somebody else's as well.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// AddressCounts counts a pool's addresses of one family.
type AddressCounts struct {
	Total    int64 `json:"total"`
	Used     int64 `json:"used"`
	Reserved int64 `json:"reserved"`
	Free     int64 `json:"free"`
}

// PoolOffender is an address in use, or kept for a Service, that the pool would not give out any more.
type PoolOffender struct {
	// +required
	Address string `json:"address"`
	// Services that use it, as "namespace/name,…"; empty while it is only kept for one.
	//
	// +optional
	Services string `json:"services,omitempty"`
	// Reason is NotInPool, Overlap, AvoidBuggyIPs or PoolDeleted.
	//
	// +optional
	Reason string `json:"reason,omitempty"`
}

// Reasons of a PoolOffender.
const (
	OffenderNotInPool   = "NotInPool"
	OffenderOverlap     = "Overlap"
	OffenderBuggyIP     = "AvoidBuggyIPs"
	OffenderPoolDeleted = "PoolDeleted"
)

// NodeAddress is an address of a pool that a node uses itself.
type NodeAddress struct {
	// +required
	Node string `json:"node"`
	// +required
	Address string `json:"address"`
	// Use is Interface for an address of the node, Gateway for that of its default gateway, Subnet for the network or
	// broadcast address of a subnet of the node.
	//
	// +required
	// +kubebuilder:validation:Enum=Interface;Gateway;Subnet
	Use NodeAddressUse `json:"use"`
}

// NodeAddressUse is what a node uses an address for.
type NodeAddressUse string

// The uses of a NodeAddress.
const (
	UseInterface NodeAddressUse = "Interface"
	UseGateway   NodeAddressUse = "Gateway"
	UseSubnet    NodeAddressUse = "Subnet"
)

// PoolFinalizer keeps an IPPool that is being deleted until no Service uses an address of it.
const PoolFinalizer = "seamark.io/addresses-in-use"

// Conditions and reasons of an IPPool.
const (
	PoolReady    = "Ready"
	PoolOverlaps = "Overlaps"

	PoolReasonValid            = "Valid"
	PoolReasonInvalidAddresses = "InvalidAddresses"
	PoolReasonInvalidSpec      = "InvalidSpec"
	PoolReasonDraining         = "Draining"
	PoolReasonDeleted          = "Deleted"
	PoolReasonOverlap          = "Overlap"
	PoolReasonNoOverlap        = "NoOverlap"
)
