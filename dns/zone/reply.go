package zone

import "encoding/binary"

// reply is a reply message under construction. It never gets longer than its limit.
type reply struct {
	msg   []byte
	q     Query
	limit int
	flags uint16
	// counts of answer, authority and additional records.
	counts [3]uint16
}

const (
	answer = iota
	authority
	additional
)

// newReply begins a reply in dst, which it overwrites.
func newReply(dst []byte, q *Query, limit int) reply {
	r := reply{q: *q, limit: min(limit, maxMessage), flags: flagQR | flagRA | q.flags&(maskOpcode|flagRD|flagCD)}
	if q.edns {
		r.limit -= optLen
	}
	r.msg = append(append(dst[:0], make([]byte, headerLen)...), q.question...)
	return r
}

// add appends one record to a section if it fits: its owner, by the offset of a name in the message, and the rest.
func (r *reply) add(section, owner int, rr []byte) bool {
	if len(r.msg)+2+len(rr) > r.limit || owner >= pointerLimit {
		return false
	}
	r.msg = binary.BigEndian.AppendUint16(r.msg, uint16(0xc000|owner))
	r.msg = append(r.msg, rr...)
	r.counts[section]++
	return true
}

// finish completes the message.
func (r *reply) finish(rcode uint16) []byte {
	if r.q.edns {
		var do byte
		if r.q.dnssec {
			// RFC 3225, 3: the DO bit must be copied. There is nothing signed to go with it.
			do = 0x80
		}
		r.msg = append(r.msg, 0, 0, typeOPT, MaxUDPSize>>8, MaxUDPSize&0xff, byte(rcode>>4), 0, do, 0, 0, 0)
		r.counts[additional]++
	}
	binary.BigEndian.PutUint16(r.msg, r.q.id)
	binary.BigEndian.PutUint16(r.msg[2:], r.flags|rcode&0xf)
	if len(r.q.question) > 0 {
		r.msg[5] = 1
	}
	for i, n := range r.counts {
		binary.BigEndian.PutUint16(r.msg[6+2*i:], n)
	}
	return r.msg
}

// rrset are records of one type and name.
type rrset struct {
	typ uint16
	// rrs in wire form without their owner names, one after the other.
	rrs []byte
	// targets of SRV and NS records, one for each.
	targets []*node
}

// addSet adds records to the answer, and sets TC if not all of them fit. Which address comes first changes with turn,
// so that clients that take the first spread over all of them, and so that each is among those that fit now and then.
func (r *reply) addSet(owner int, set rrset, turn uint32) {
	rrs := set.rrs
	if set.typ == typeA || set.typ == typeAAAA {
		stride := rrLen(rrs)
		first := int(turn%uint32(len(rrs)/stride)) * stride
		if !r.addAll(owner, rrs[first:]) || !r.addAll(owner, rrs[:first]) {
			r.flags |= flagTC
		}
		return
	}
	at := len(r.msg)
	if !r.addAll(owner, rrs) {
		r.flags |= flagTC
		return
	}
	if set.typ == typeSRV {
		r.addTargets(at, rrHeader+6, set.targets)
	} else {
		r.addTargets(at, rrHeader, set.targets)
	}
}

func (r *reply) addAll(owner int, rrs []byte) bool {
	for len(rrs) > 0 {
		n := rrLen(rrs)
		if !r.add(answer, owner, rrs[:n]) {
			return false
		}
		rrs = rrs[n:]
	}
	return true
}

// addTargets adds the addresses that records' targets have as additional records, as far as they fit: the client can
// ask for the others. The records begin at an offset of the message, and the target's name nameAt octets behind the
// owner name of each; records with one target stand together.
func (r *reply) addTargets(at, nameAt int, targets []*node) {
	for i, t := range targets {
		at += 2
		owner := at + nameAt
		at += rrLen(r.msg[at:])
		if i > 0 && targets[i-1] == t {
			continue
		}
		for _, set := range t.sets {
			if set.typ != typeA && set.typ != typeAAAA {
				continue
			}
			for rrs := set.rrs; len(rrs) > 0; rrs = rrs[rrLen(rrs):] {
				if !r.add(additional, owner, rrs[:rrLen(rrs)]) {
					return
				}
			}
		}
	}
}
