package v1alpha1

// The condition that the controller puts on a Service of type LoadBalancer, and its reasons; the other reasons are those
// of package provider/ipam. The last is the reason of an event.
const (
	// ServiceAddressAllocated is True when the Service has the addresses that it asks for. If it is False, the message
	// says what to change.
	ServiceAddressAllocated = "seamark.io/AddressAllocated"

	ServiceReasonAllocated          = "Allocated"
	ServiceReasonConflictingRequest = "ConflictingRequest"
)
