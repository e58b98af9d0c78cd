package segments

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/liveness/wire"
)

// overlap is how far apart agents may learn of a key that none of them has accepted before, as after the Secret was deleted: for
// so long each goes on to seal with the one that it had, and takes both.
const overlap = 10 * time.Second

// keyring is which keys a node goes by. It is for one goroutine at a time.
type keyring struct {
	// hold is overlap, but in tests.
	hold time.Duration
	// given are those that can be used of the keys that were given last; nil: there were none.
	given *cluster.HeartbeatKeys
	// before is what was sealed with when given came, if those who seal with that do not accept given.Send; nil: it is of no
	// use any more. since is when it came.
	before []byte
	since  time.Time
	// current are the keys to go by.
	current *cluster.HeartbeatKeys
}

// give, after which at is to be called, replaces the keys by those of others that can be used; nil changes nothing. The error says
// which cannot.
func (r *keyring) give(keys *cluster.HeartbeatKeys, now time.Time) error {
	if keys == nil {
		return nil
	}
	k, err := usable(keys)
	if k == nil {
		return err
	}
	switch {
	case r.given == nil, bytes.Equal(k.Send, r.given.Send): // the overlap goes on, if there is one
	case accepts(r.given, k.Send), accepts(k, r.given.Send):
		r.before = nil // it is being rotated, and k says whether the old one is still taken
	default:
		r.before, r.since = r.current.Send, now
	}
	r.given = k
	return err
}

// at returns the keys to go by, the same pointer as long as they are the same, nil if there are none; and after how long there
// will be others, 0 for never. The old key is taken for longer than any agent seals with it that learns of the new one in time.
func (r *keyring) at(now time.Time) (keys *cluster.HeartbeatKeys, again time.Duration) {
	if r.given == nil {
		return nil, 0
	}
	k := *r.given
	switch age := now.Sub(r.since); {
	case r.before == nil:
	case age < r.hold:
		k.Send, k.Accept, again = r.before, append([][]byte{k.Send}, k.Accept...), r.hold-age
	case age < 3*r.hold:
		k.Accept, again = append(slices.Clone(k.Accept), r.before), 3*r.hold-age
	default:
		r.before = nil
	}
	if !sameKeys(&k, r.current) {
		r.current = &k
	}
	return r.current, again
}

// usable returns the keys without those that are too short, and what was left out; nil if there is none to seal with.
func usable(given *cluster.HeartbeatKeys) (*cluster.HeartbeatKeys, error) {
	if n := len(given.Send); n < wire.MinSecret {
		return nil, fmt.Errorf("the key for heartbeats cannot be used: it has %d bytes, the least is %d", n, wire.MinSecret)
	}
	out := &cluster.HeartbeatKeys{Send: given.Send}
	var errs []error
	for _, k := range given.Accept {
		if len(k) < wire.MinSecret {
			errs = append(errs, fmt.Errorf("a further key for heartbeats is left out: it has %d bytes, the least is %d", len(k), wire.MinSecret))
			continue
		}
		out.Accept = append(out.Accept, k)
	}
	return out, errors.Join(errs...)
}

func accepts(k *cluster.HeartbeatKeys, key []byte) bool {
	return slices.ContainsFunc(k.Accept, func(a []byte) bool { return bytes.Equal(a, key) })
}

func sameKeys(a, b *cluster.HeartbeatKeys) bool {
	return a != nil && b != nil && bytes.Equal(a.Send, b.Send) && slices.EqualFunc(a.Accept, b.Accept, bytes.Equal)
}
