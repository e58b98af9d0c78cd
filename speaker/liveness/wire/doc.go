// Package wire is how heartbeats look on the segment: their encoding, and the sealing that makes them believable.
//
// A frame is a header in the clear (magic, version, whether it is prompt, the id of the key, and sender, incarnation and sequence number, which
// are the nonce as well) and the sealed heartbeat (AES-256-GCM). The key is derived by HKDF-SHA256 from the bytes of a
// Secret, for one segment and one sender, so no two senders share a key and no nonce is ever used twice with one: the
// incarnation is random and the sequence number counts. Two keys are accepted at a time, so that they can be rotated.
//
// The package is pure. That each number is used once, and that a recording of an earlier incarnation is not taken for the
// living one, is seen to by liveness.Member; here is only decided whether a frame was sealed by somebody who has the key.
// Nothing that arrives can make it panic, or allocate more than a frame's length justifies.
package wire
