package liveness

import "slices"

// entry is one change of a journal.
type entry[K comparable, V any] struct {
	version uint32
	key     K
	value   V
}

// journal is a map that is copied to other nodes: each change has a version, and what changed since a version can be read
// off. A key that was set once stays, with whatever stands for "nothing" as its value: the copies must learn of it.
type journal[K comparable, V comparable] struct {
	version uint32
	// log is sorted by version; an entry whose key has a newer one is stale.
	log   []entry[K, V]
	at    map[K]int
	stale int
}

// set does nothing if the key has the value.
func (j *journal[K, V]) set(k K, v V) bool {
	if j.at == nil {
		j.at = map[K]int{}
	}
	i, ok := j.at[k]
	if ok && j.log[i].value == v {
		return false
	}
	var none V
	if !ok && v == none {
		return false
	}
	if ok {
		j.stale++
	}
	j.version++
	j.at[k] = len(j.log)
	j.log = append(j.log, entry[K, V]{j.version, k, v})
	if j.stale > 64 && j.stale > len(j.log)/2 {
		j.compact()
	}
	return true
}

func (j *journal[K, V]) compact() {
	kept := j.log[:0]
	for i, e := range j.log {
		if j.at[e.key] == i {
			j.at[e.key] = len(kept)
			kept = append(kept, e)
		}
	}
	clear(j.log[len(kept):])
	j.log, j.stale = kept, 0
}

// after returns the index in the log of the first entry after the version.
func (j *journal[K, V]) after(version uint32) int {
	i, _ := slices.BinarySearchFunc(j.log, version, func(e entry[K, V], v uint32) int {
		if e.version <= v {
			return -1
		}
		return 1
	})
	return i
}

// current says whether the entry at the index is its key's newest.
func (j *journal[K, V]) current(i int) bool { return j.at[j.log[i].key] == i }

// span is the versions after from up to and with to.
type span struct{ from, to uint32 }

// replica says which versions of another node's journal have arrived: all up to prefix, and those in spans, which are
// sorted and do not touch. Pieces may come in any order, since each change has its version with it.
type replica struct {
	prefix uint32
	spans  []span
}

// maxSpans bounds what is remembered of pieces that came too early; they come again.
const maxSpans = 64

// add notes that a piece has arrived.
func (r *replica) add(s span) {
	if s.to <= s.from || s.to <= r.prefix {
		return
	}
	i := 0
	for i < len(r.spans) && r.spans[i].to < s.from {
		i++
	}
	k := i
	for k < len(r.spans) && r.spans[k].from <= s.to {
		s.from, s.to = min(s.from, r.spans[k].from), max(s.to, r.spans[k].to)
		k++
	}
	if s.from > r.prefix {
		if k > i || len(r.spans) < maxSpans {
			r.spans = slices.Replace(r.spans, i, k, s)
		}
		return
	}
	r.prefix = s.to
	r.spans = slices.Delete(r.spans, 0, k)
}
