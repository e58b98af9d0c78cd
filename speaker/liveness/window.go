package liveness

// windowSize is how far behind the newest sequence number one may be that is still taken.
const windowSize = 1024

// window takes each sequence number once (RFC 6479, the bitmap of blocks that need no shifting). The zero value has seen
// nothing; 0 is no sequence number.
type window struct {
	newest uint32
	bits   [windowSize/64 + 1]uint64
}

// accept returns false if the number was seen or is too old to know.
func (w *window) accept(seq uint32) bool {
	const blocks = uint32(len(w.bits))
	if seq == 0 || w.newest >= windowSize && seq <= w.newest-windowSize {
		return false
	}
	if seq > w.newest {
		for b, n := w.newest/64+1, uint32(0); b <= seq/64 && n < blocks; b, n = b+1, n+1 {
			w.bits[b%blocks] = 0
		}
		w.newest = seq
	}
	word, bit := &w.bits[seq/64%blocks], uint64(1)<<(seq%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}
