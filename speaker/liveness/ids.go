package liveness

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
)

// NodeID stands for a node on the wire.
type NodeID uint64

// NodeOf returns the id of the node with this name: 64 bits of its SHA-256, never 0. That two of 256 nodes share an id has a
// probability of about 2^-49.
func NodeOf(name string) NodeID {
	sum := sha256.Sum256([]byte(name))
	return NodeID(max(binary.BigEndian.Uint64(sum[:8]), 1))
}

// AddressID stands for an address on the wire.
type AddressID uint64

// AddressOf returns the id of an address: the same on every node, whatever else it knows. IPv4 addresses have distinct
// ids, and so have IPv6 addresses of one /64; others share one with a probability of 2^-64 for each pair. Two addresses
// with one id could not be held by different nodes at once; nothing worse.
func AddressOf(a netip.Addr) AddressID {
	a = a.Unmap()
	if a.Is4() {
		b := a.As4()
		return AddressID(mix(0x34<<56 | uint64(binary.BigEndian.Uint32(b[:]))))
	}
	b := a.As16()
	return AddressID(mix(mix(binary.BigEndian.Uint64(b[:8])+0x9e3779b97f4a7c15) ^ binary.BigEndian.Uint64(b[8:])))
}

// outranks says whether a goes before b when both claim the address: rendezvous hashing, the same on every node and
// independent of who is alive. It is part of the protocol and must not change.
func outranks(v AddressID, a, b NodeID) bool {
	wa, wb := mix(uint64(v)^mix(uint64(a))), mix(uint64(v)^mix(uint64(b)))
	return wa > wb || wa == wb && a < b
}

// mix is the finalizer of splitmix64: a bijection in which each bit of the input changes half of the output's.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
