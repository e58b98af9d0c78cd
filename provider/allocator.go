package provider

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/seamark-io/seamark/api/client"
	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/provider/ipam"
)

// allocator makes decisions true with VIP objects. It believes what the watch of VIPs shows and, until that shows it,
// what it wrote itself. Where it believes the wrong thing (another controller was faster), the API server refuses to
// create a VIP that exists, and the next address is tried.
type allocator struct {
	client client.VIPs

	mu    sync.Mutex
	index *ipam.Index
	// recorded are the claims that a VIP object is known for; the others are promised to a Service but not written yet.
	recorded map[netip.Addr]types.UID
	// leaving are VIPs that were deleted here and that the watch still shows.
	leaving map[netip.Addr]types.UID
	// busy are the Services that addresses are being written for.
	busy map[cluster.Name]struct{}
	// suspect are claims that the last sweep found no object for.
	suspect map[netip.Addr]struct{}
}

func newAllocator(c client.VIPs) *allocator {
	return &allocator{
		client:   c,
		index:    ipam.NewIndex(),
		recorded: map[netip.Addr]types.UID{},
		leaving:  map[netip.Addr]types.UID{},
		busy:     map[cluster.Name]struct{}{},
	}
}

func (a *allocator) setPools(valid []cluster.Pool, refused map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index.SetPools(valid, refused)
}

// held returns the addresses of a Service, those promised to it among them.
func (a *allocator) held(s cluster.Name) []netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.index.HeldBy(s))
}

func (a *allocator) counts(pool string) (ipv4, ipv6 ipam.Counts) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.index.CountsOf(pool)
}

// usedOf counts the addresses that came from a pool, whatever became of it since.
func (a *allocator) usedOf(pool string) (n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.index.Claims() {
		if c.Pool == pool {
			n++
		}
	}
	return n
}

// promise decides a request and keeps the addresses for the Service; ensure writes them.
func (a *allocator) promise(r ipam.Request) ipam.Decision {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.decide(r)
}

func (a *allocator) decide(r ipam.Request) ipam.Decision {
	d := a.index.Decide(r)
	for _, g := range d.Take {
		a.index.Hold(g.Addr, ipam.Claim{Services: []cluster.Name{r.Service}, Pool: g.Pool})
	}
	return d
}

// ensure decides a request and writes the VIPs that the decision needs, until API server and decision agree.
func (a *allocator) ensure(ctx context.Context, r ipam.Request) (ipam.Decision, error) {
	if !a.enter(r.Service) {
		return ipam.Decision{}, errBusy
	}
	defer a.leave(r.Service)
	for {
		a.mu.Lock()
		d := a.decide(r)
		write := a.unrecorded(d.Addresses)
		if d.Problem != nil {
			// A promise that came to nothing because the Service has changed since.
			for _, addr := range write {
				a.index.Release(addr)
			}
			a.mu.Unlock()
			return d, nil
		}
		a.mu.Unlock()

		ok, err := a.createAll(ctx, r.Service, write)
		if err != nil {
			return d, err
		}
		if !ok {
			continue // each round rules out an address that turned out to be taken
		}
		for _, addr := range d.Drop {
			if err := a.remove(ctx, addr, r.Service); err != nil {
				return d, err
			}
		}
		return d, nil
	}
}

// createAll creates VIPs. It reports whether the Service has got all of them.
func (a *allocator) createAll(ctx context.Context, s cluster.Name, addrs []netip.Addr) (ok bool, err error) {
	for i, addr := range addrs {
		if ok, err = a.create(ctx, s, addr); !ok || err != nil {
			a.mu.Lock()
			for _, rest := range a.unrecorded(addrs[i:]) {
				a.index.Release(rest)
			}
			a.mu.Unlock()
			return false, err
		}
	}
	return true, nil
}

// create creates one VIP. It reports whether it is the Service's, be it that it was so before.
func (a *allocator) create(ctx context.Context, s cluster.Name, addr netip.Addr) (bool, error) {
	a.mu.Lock()
	claim, _ := a.index.Claim(addr)
	a.mu.Unlock()

	vip, err := a.client.Create(ctx, &v1alpha1.VIP{
		ObjectMeta: metav1.ObjectMeta{Name: cluster.VIPName(addr)},
		Spec: v1alpha1.VIPSpec{
			Address:  addr.String(),
			Pool:     claim.Pool,
			Services: []v1alpha1.ServiceReference{{Namespace: s.Namespace, Name: s.Name}},
		},
	}, metav1.CreateOptions{FieldManager: FieldManager})
	if apierrors.IsAlreadyExists(err) {
		vip, err = a.client.Get(ctx, cluster.VIPName(addr), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil // deleted in between: it is free, try again
		}
	}
	if err != nil {
		return false, wrapVIP("create", addr, err)
	}
	a.vipSeen(vip)
	return slices.Contains(servicesOf(vip), s), nil
}

// release gives back all addresses of a Service.
func (a *allocator) release(ctx context.Context, s cluster.Name) error {
	if !a.enter(s) {
		return errBusy
	}
	defer a.leave(s)
	var errs []error
	for _, addr := range a.held(s) {
		errs = append(errs, a.remove(ctx, addr, s))
	}
	return errors.Join(errs...)
}

// remove takes an address away from a Service.
func (a *allocator) remove(ctx context.Context, addr netip.Addr, s cluster.Name) error {
	a.mu.Lock()
	uid, recorded := a.recorded[addr]
	if !recorded {
		a.index.Release(addr)
	}
	claim, _ := a.index.Claim(addr)
	a.mu.Unlock()
	switch {
	case !recorded:
		return nil
	case len(claim.Services) > 1:
		return a.removeFrom(ctx, addr, s)
	}

	err := a.client.Delete(ctx, cluster.VIPName(addr), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if err != nil && !apierrors.IsNotFound(err) {
		return wrapVIP("delete", addr, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	// Nobody's until the watch has shown that it is gone: what it shows before that is old.
	if a.recorded[addr] == uid {
		delete(a.recorded, addr)
		a.leaving[addr] = uid
		a.index.Hold(addr, ipam.Claim{Pool: claim.Pool})
	}
	return nil
}

// removeFrom takes a Service out of a VIP that others use as well.
func (a *allocator) removeFrom(ctx context.Context, addr netip.Addr, s cluster.Name) error {
	vip, err := a.client.Get(ctx, cluster.VIPName(addr), metav1.GetOptions{})
	if err != nil {
		return wrapVIP("read", addr, err)
	}
	vip.Spec.Services = slices.DeleteFunc(vip.Spec.Services, func(r v1alpha1.ServiceReference) bool {
		return r.Namespace == s.Namespace && r.Name == s.Name
	})
	vip, err = a.client.Update(ctx, vip, metav1.UpdateOptions{FieldManager: FieldManager})
	if err != nil {
		return wrapVIP("update", addr, err)
	}
	a.vipSeen(vip)
	return nil
}

// vipSeen takes notice of a VIP that exists. One whose name is no address locks nothing and is passed over.
func (a *allocator) vipSeen(vip *v1alpha1.VIP) {
	addr, ok := addressOf(vip)
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if uid, ok := a.leaving[addr]; ok && uid == vip.UID {
		return
	}
	delete(a.leaving, addr)
	a.recorded[addr] = vip.UID
	a.index.Hold(addr, ipam.Claim{Services: servicesOf(vip), Pool: vip.Spec.Pool})
}

// vipGone takes notice of a VIP that does not exist any more. It reports whether somebody else deleted it.
func (a *allocator) vipGone(vip *v1alpha1.VIP) (unasked bool) {
	addr, ok := addressOf(vip)
	if !ok {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	unasked = a.recorded[addr] == vip.UID
	if unasked || a.leaving[addr] == vip.UID {
		a.forget(addr)
	}
	return unasked
}

func (a *allocator) forget(addr netip.Addr) {
	delete(a.recorded, addr)
	delete(a.leaving, addr)
	a.index.Release(addr)
}

// sweep forgets claims that nothing stands for: no object, neither now nor at the last sweep, and nobody who is writing
// one. They come from promises to Services that have gone and from objects that came and went while the watch was
// broken. It returns whether it forgot any.
func (a *allocator) sweep(exists func(vip string) bool) (freed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	suspect := map[netip.Addr]struct{}{}
	for addr, claim := range a.index.Claims() {
		if exists(cluster.VIPName(addr)) || slices.ContainsFunc(claim.Services, a.isBusy) {
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

func (a *allocator) unrecorded(addrs []netip.Addr) (out []netip.Addr) {
	for _, addr := range addrs {
		if _, ok := a.recorded[addr]; !ok {
			out = append(out, addr)
		}
	}
	return out
}

// enter reports whether nobody else is changing the addresses of the Service; if so, leave must follow.
func (a *allocator) enter(s cluster.Name) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.isBusy(s) {
		return false
	}
	a.busy[s] = struct{}{}
	return true
}

func (a *allocator) leave(s cluster.Name) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.busy, s)
}

func (a *allocator) isBusy(s cluster.Name) bool {
	_, ok := a.busy[s]
	return ok
}

// addressOf returns the address that a VIP locks: that of its name.
func addressOf(vip *v1alpha1.VIP) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.ReplaceAll(vip.Name, "-", ":"))
	return a, err == nil && cluster.VIPName(a) == vip.Name
}

// servicesOf returns the Services of a VIP; none for one whose spec contradicts its name.
func servicesOf(vip *v1alpha1.VIP) []cluster.Name {
	if a, ok := addressOf(vip); !ok || a.String() != vip.Spec.Address {
		return nil
	}
	var out []cluster.Name
	for _, s := range vip.Spec.Services {
		out = append(out, cluster.Name{Namespace: s.Namespace, Name: s.Name})
	}
	return out
}
