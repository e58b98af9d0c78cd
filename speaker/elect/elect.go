package elect

import "net/netip"

// Owner returns the candidate that owns the address, the empty string when there is none. The order of candidates and
// duplicates among them do not matter.
func Owner(addr netip.Addr, candidates []string) string {
	key := addr.Unmap().As16()
	var owner string
	var best uint64
	for i, c := range candidates {
		w := weight(seed(c), key)
		if i == 0 || w > best || w == best && c < owner {
			owner, best = c, w
		}
	}
	return owner
}

// A weight is 64-bit FNV-1a over the candidate's name, a zero byte (names have none) and the address, with the finalizer
// of MurmurHash3 behind it: FNV alone leaves the high bits, which the comparison lives on, nearly the same for addresses
// that differ in the last byte.
const fnvOffset, fnvPrime = 0xcbf29ce484222325, 0x100000001b3

// seed is the hash after the candidate's name and the zero byte.
func seed(candidate string) uint64 {
	h := uint64(fnvOffset)
	for i := range len(candidate) {
		h = (h ^ uint64(candidate[i])) * fnvPrime
	}
	return h * fnvPrime
}

// weight goes on from a seed.
func weight(h uint64, key [16]byte) uint64 {
	for _, b := range key {
		h = (h ^ uint64(b)) * fnvPrime
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
