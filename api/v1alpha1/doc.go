// Package v1alpha1 holds the objects a person or a program configures Seamark with and reads its state from:
// IPPool (which addresses there are), BGPPeer (which routers hear of them) and VIP (one address and who uses it).
//
// The doc comments of the fields are the reference: the CRDs' descriptions (kubectl explain) are generated from them.
//
// +kubebuilder:object:generate=true
// +groupName=seamark.io
package v1alpha1
