package speaker

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/seamark-io/seamark/api/client"
)

// changedPools returns the IPPools whose list of this node's own addresses is not as it is written.
func (r *reporter) changedPools(o observation) (names []string) {
	for name, own := range o.own {
		if !r.own[name].equal(own) {
			names = append(names, name)
		}
	}
	for name := range r.own {
		if _, ok := o.own[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

// writePool applies the addresses of an IPPool that are this node's own.
func (r *reporter) writePool(ctx context.Context, name string, own poolReport) error {
	object, _ := applied("IPPool", name, "nodeAddresses", own.addresses)
	err := client.ApplyStatus(ctx, r.cfg.Seamark.IPPools, r.manager, name, object)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write status of IPPool %s: %w", name, err)
	}
	r.written.Lock()
	defer r.written.Unlock()
	if len(own.addresses) > 0 {
		r.own[name] = own
	} else {
		delete(r.own, name)
	}
	return nil
}
