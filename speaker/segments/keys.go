package segments

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/liveness/wire"
)

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

func sameKeys(a, b *cluster.HeartbeatKeys) bool {
	return a == b || a != nil && b != nil && bytes.Equal(a.Send, b.Send) && slices.EqualFunc(a.Accept, b.Accept, bytes.Equal)
}
