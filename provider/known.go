package provider

import (
	"context"
	"net/netip"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/provider/ipam"
)

// reread takes notice of what a VIP is now, even if that is older than what is known: then etcd was restored from a backup.
func (a *allocator) reread(ctx context.Context, addr netip.Addr) error {
	a.mu.Lock()
	before := a.written[addr].version
	a.mu.Unlock()
	vip, err := a.client.Get(ctx, cluster.VIPName(addr), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.forget(addr)
		return nil
	}
	if err != nil {
		return wrapVIP("read", addr, err)
	}
	a.mu.Lock()
	if a.written[addr].version == before && a.contradicts(addr, objectOf(vip)) {
		delete(a.written, addr)
	}
	a.mu.Unlock()
	a.vipSeen(vip)
	return nil
}

// contradicts reports whether an object is older than what is known of it, or says something else; mu is held.
func (a *allocator) contradicts(addr netip.Addr, o vipObject) bool {
	have, known := a.written[addr]
	return known && have.uid == o.uid &&
		(have.generation > o.generation || have.generation == o.generation && !have.claim.Equal(o.claim))
}

// doubts reports whether a VIP that the watch shows contradicts what is known of it: because the watch is late, or because
// etcd was restored from a backup.
func (a *allocator) doubts(vip *v1alpha1.VIP) bool {
	addr, ok := addressOf(vip)
	if !ok {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.contradicts(addr, objectOf(vip))
}

// vipSeen takes notice of a VIP that exists, and returns the Services to look at because of it: those that hold two
// addresses of a family by it, because two controllers have served them at the same time, and those that it was taken from.
// One whose name is no address locks nothing and is passed over.
//
// What was written here is known before the watch shows it, and what is promised is newer than both: so only a spec that is
// newer than the known one counts.
func (a *allocator) vipSeen(vip *v1alpha1.VIP) (again []cluster.Name) {
	addr, ok := addressOf(vip)
	if !ok {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if uid, ok := a.leaving[addr]; ok && uid == vip.UID {
		return nil
	}
	delete(a.leaving, addr)
	have, known := a.written[addr]
	now := objectOf(vip)
	if known && have.uid == now.uid && have.generation >= now.generation {
		if have.generation == now.generation {
			now.claim = have.claim // the uid is the one that the informer keeps: equal, and once in memory
			a.written[addr] = now
		}
		return nil
	}
	if promised, held := a.index.Claim(addr); held && promised.Equal(now.claim) {
		promised.Since = now.claim.Since
		now.claim = &promised // its strings are the Service's own: equal, and once in memory
	}
	a.written[addr] = now
	a.hold(addr, now.claim)
	if known {
		again = usersGone(have.claim, now.claim)
	}
	for _, u := range now.claim.Users {
		if slices.ContainsFunc(a.index.HeldBy(u.Service), func(other netip.Addr) bool { return other != addr && other.Is4() == addr.Is4() }) {
			again = append(again, u.Service)
		}
	}
	return again
}

// usersGone returns the Services that an address was taken from.
func usersGone(was, now *ipam.Claim) (out []cluster.Name) {
	for _, u := range was.Users {
		if !slices.ContainsFunc(now.Users, func(v ipam.User) bool { return u.Service == v.Service }) {
			out = append(out, u.Service)
		}
	}
	return out
}

// vipGone takes notice of a VIP that does not exist any more. If somebody else deleted it, the address is promised to those
// who had it and are still to have it, before anybody else can get it; it returns them.
func (a *allocator) vipGone(vip *v1alpha1.VIP, still func(cluster.Name) bool) (restored []cluster.Name) {
	addr, ok := addressOf(vip)
	if !ok {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	w, exists := a.written[addr]
	_, ending := a.ending[addr]
	switch {
	case exists && w.uid == vip.UID && !ending:
		was := *w.claim
		was.Users = slices.DeleteFunc(slices.Clone(was.Users), func(u ipam.User) bool { return !still(u.Service) })
		for _, u := range was.Users {
			restored = append(restored, u.Service)
		}
		if len(restored) == 0 {
			a.forget(addr)
			return nil
		}
		was.Since = time.Time{}
		delete(a.written, addr)
		a.hold(addr, &was)
	case exists && w.uid == vip.UID, a.leaving[addr] == vip.UID:
		a.forget(addr)
	}
	return restored
}

func (a *allocator) forget(addr netip.Addr) {
	delete(a.written, addr)
	delete(a.leaving, addr)
	a.free(addr)
}

// drop takes back what is promised to a Service that is gone, and returns the addresses that VIPs say are its.
func (a *allocator) drop(s cluster.Name) (rest []netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	busy := a.isBusy(s)
	for _, c := range a.index.Leave(s) {
		w, exists := a.written[c.Addr]
		switch {
		case busy, exists && slices.ContainsFunc(w.claim.Users, func(u ipam.User) bool { return u.Service == s }):
			rest = append(rest, c.Addr)
		case c.Claim != nil && len(c.Claim.Users) > 0:
			a.hold(c.Addr, c.Claim)
		default:
			a.revert(c.Addr)
		}
	}
	return rest
}

// sweep forgets claims that nothing stands for: no object, neither now nor at the last sweep, and nobody who is writing
// one. They come from promises to Services that have gone and from objects that came and went while the watch was
// broken. It returns whether it forgot any.
func (a *allocator) sweep(exists func(vip string) bool) (freed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	suspect := map[netip.Addr]struct{}{}
	for addr, claim := range a.index.Claims() {
		if exists(cluster.VIPName(addr)) || slices.ContainsFunc(claim.Users, func(u ipam.User) bool { return a.isBusy(u.Service) }) {
			continue
		}
		suspect[addr] = struct{}{}
	}
	for addr := range a.suspect {
		if _, still := suspect[addr]; still {
			a.forget(addr)
			delete(suspect, addr)
			freed = true
		}
	}
	a.suspect = suspect
	return freed
}
