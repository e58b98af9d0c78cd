package v1alpha1

// LoadBalancerClass is the spec.loadBalancerClass of Services that Seamark serves, beside those that name no class,
// unless the controller is told otherwise.
const LoadBalancerClass = "seamark.io/vip"

// The condition that the controller puts on a Service of type LoadBalancer, and its reasons; the other reasons are those
// of package provider/ipam, which are the reasons of events too. The last is the reason of an event alone.
const (
	// ServiceAddressAllocated is True when the Service has the addresses that it asks for. If it is False, the message
	// says what to change.
	ServiceAddressAllocated = "seamark.io/AddressAllocated"

	ServiceReasonAllocated = "Allocated"
	// ServiceReasonWriteFailed: the API server has not taken a VIP or the status; it is tried again.
	ServiceReasonWriteFailed        = "WriteFailed"
	ServiceReasonConflictingRequest = "ConflictingRequest"
)
