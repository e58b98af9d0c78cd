package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/seamark-io/seamark/api/client"
	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/provider/ipam"
)

// allocator makes decisions true with VIP objects. Its index is what shall be; written is what is, as far as the watch of
// VIPs and the answers to its own writes have shown. Where it believes the wrong thing (another controller was faster), the
// API server refuses to create a VIP that exists or to change a version that is gone, and the request is decided anew.
type allocator struct {
	client client.VIPs
	// clashed counts the writes that the API server refused because somebody else was faster.
	clashed func()

	mu    sync.Mutex
	index *ipam.Index
	// written are the VIPs that exist. Claims of the index without one are promised to a Service and not written yet.
	written map[netip.Addr]vipObject
	// leaving are VIPs that were deleted here and that the watch still shows.
	leaving map[netip.Addr]types.UID
	// busy are the Services that addresses are being written for.
	busy map[cluster.Name]struct{}
	// suspect are claims that the last sweep found no object for.
	suspect map[netip.Addr]struct{}
}

func newAllocator(c client.VIPs, clashed func()) *allocator {
	return &allocator{
		client: c, clashed: clashed, index: ipam.NewIndex(),
		written: map[netip.Addr]vipObject{}, leaving: map[netip.Addr]types.UID{}, busy: map[cluster.Name]struct{}{},
	}
}

func (a *allocator) setPools(pools []ipam.Pool, refused map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index.SetPools(pools, refused)
}

// describe notes what a Service wants.
func (a *allocator) describe(r ipam.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index.Describe(r)
}

// undescribe notes that a Service wants nothing any more.
func (a *allocator) undescribe(s cluster.Name) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index.Forget(s)
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

// poolOf returns the name of the pool that counts a VIP.
func (a *allocator) poolOf(vip *v1alpha1.VIP) string {
	addr, ok := addressOf(vip)
	if vip.Spec.Pool != "" || !ok {
		return vip.Spec.Pool
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.index.PoolOf(addr)
}

// promise decides a request and keeps the addresses for the Service; ensure writes them, and gives up what the Service
// leaves. It reports whether the Service got an address, or ports of one, that it did not have.
func (a *allocator) promise(r ipam.Request) (d ipam.Decision, news bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d = a.index.Decide(r)
	for _, c := range d.Changes {
		if slices.Contains(d.Addresses, c.Addr) {
			a.index.Set(c)
			news = true
		}
	}
	return d, news
}

func (a *allocator) set(changes []ipam.Change) {
	for _, c := range changes {
		a.index.Set(c)
	}
}

// ensure decides a request and writes the VIPs that the decision needs, until API server and decision agree. With together
// it leaves VIPs that are only to be created to the caller, who writes them with writeAll when it writes the status. It
// reports whether it has written any itself.
func (a *allocator) ensure(ctx context.Context, r ipam.Request, together bool) (d ipam.Decision, left []netip.Addr, wrote bool, err error) {
	if !a.enter(r.Service) {
		return d, nil, false, errBusy
	}
	defer a.leave(r.Service)
	for range mostRounds {
		a.mu.Lock()
		d = a.index.Decide(r)
		a.set(d.Changes)
		write := a.unwritten(d)
		if d.Problem != nil {
			d.Addresses = slices.DeleteFunc(d.Addresses, a.withdraw)
			write = slices.DeleteFunc(write, func(addr netip.Addr) bool { _, held := a.index.Claim(addr); return !held })
		}
		onlyNew := !slices.ContainsFunc(write, func(addr netip.Addr) bool { _, exists := a.written[addr]; return exists })
		a.mu.Unlock()
		if len(write) == 0 || together && onlyNew {
			return d, write, wrote, nil
		}
		if _, err := a.writeAll(ctx, write); err != nil {
			return d, nil, wrote, err
		}
		wrote = true
	}
	return ipam.Decision{}, nil, wrote, fmt.Errorf("the VIPs of Service %s have changed %d times while they were written", r.Service, mostRounds)
}

// mostRounds bounds how often a request is decided anew: each round rules out an address that turned out to be taken.
const mostRounds = 1000

// unwritten returns the addresses whose VIP is not what the decision wants, first those that the Service gets.
func (a *allocator) unwritten(d ipam.Decision) (out []netip.Addr) {
	for _, addr := range d.Addresses {
		if c, held := a.index.Claim(addr); held && !a.isWritten(addr, c) {
			out = append(out, addr)
		}
	}
	for _, c := range d.Changes {
		if !slices.Contains(d.Addresses, c.Addr) {
			out = append(out, c.Addr)
		}
	}
	return out
}

func (a *allocator) isWritten(addr netip.Addr, c ipam.Claim) bool {
	w, ok := a.written[addr]
	return ok && w.claim.Equal(&c)
}

// withdraw takes back a promise that came to nothing because the Service has changed since.
func (a *allocator) withdraw(addr netip.Addr) bool {
	if _, exists := a.written[addr]; exists {
		return false
	}
	a.index.Release(addr)
	return true
}

// release gives back all addresses of a Service.
func (a *allocator) release(ctx context.Context, s cluster.Name) error {
	if !a.enter(s) {
		return errBusy
	}
	defer a.leave(s)
	for range mostRounds {
		a.mu.Lock()
		changes := a.index.Leave(s)
		a.set(changes)
		a.mu.Unlock()
		write := make([]netip.Addr, len(changes))
		for i, c := range changes {
			write[i] = c.Addr
		}
		agreed, err := a.writeAll(ctx, write)
		if err != nil || agreed {
			return err
		}
	}
	return fmt.Errorf("the VIPs of Service %s have changed %d times while they were given back", s, mostRounds)
}

// writeAll makes the VIPs of some addresses what the index says. It reports false when one turned out to be something else
// than was known: then the decision must be made anew. What could not be written is not promised any longer.
func (a *allocator) writeAll(ctx context.Context, addrs []netip.Addr) (agreed bool, err error) {
	for i, addr := range addrs {
		ok, err := a.write(ctx, addr)
		if err != nil || !ok {
			a.mu.Lock()
			for _, rest := range addrs[i:] {
				a.revert(rest)
			}
			a.mu.Unlock()
			return false, err
		}
	}
	return true, nil
}

// revert makes the index say of an address what was written.
func (a *allocator) revert(addr netip.Addr) {
	if w, exists := a.written[addr]; exists {
		a.index.Hold(addr, w.claim)
	} else if _, leaving := a.leaving[addr]; !leaving {
		a.index.Release(addr)
	}
}

// write makes one VIP what the index says.
func (a *allocator) write(ctx context.Context, addr netip.Addr) (ok bool, err error) {
	a.mu.Lock()
	want, wanted := a.index.Claim(addr)
	have, exists := a.written[addr]
	a.mu.Unlock()
	switch {
	case !wanted && !exists, exists && wanted && have.claim.Equal(&want):
		return true, nil
	case !exists:
		ok, err = a.create(ctx, addr, want)
	case !wanted:
		ok, err = a.delete(ctx, addr, have)
	default:
		ok, err = a.update(ctx, addr, have, want)
	}
	if err == nil && !ok {
		a.clashed()
	}
	return ok, err
}

func (a *allocator) create(ctx context.Context, addr netip.Addr, want ipam.Claim) (bool, error) {
	name := cluster.VIPName(addr)
	vip, err := a.client.Create(ctx, &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: specOf(addr, want)}, metav1.CreateOptions{FieldManager: FieldManager})
	if apierrors.IsAlreadyExists(err) {
		return false, a.reread(ctx, addr)
	}
	if err != nil {
		return false, wrapVIP("create", addr, err)
	}
	a.vipSeen(vip)
	return true, nil
}

func (a *allocator) update(ctx context.Context, addr netip.Addr, have vipObject, want ipam.Claim) (bool, error) {
	patch, err := updateOf(have, specOf(addr, want))
	if err != nil {
		return false, fmt.Errorf("encode VIP %s: %w", addr, err)
	}
	vip, err := a.client.Patch(ctx, cluster.VIPName(addr), types.MergePatchType, patch, metav1.PatchOptions{FieldManager: FieldManager})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return a.again(ctx, addr, have, want)
	}
	if err != nil {
		return false, wrapVIP("update", addr, err)
	}
	a.vipSeen(vip)
	return true, nil
}

// updateOf returns the merge patch (RFC 7386) that sets the spec of just this version of a VIP.
func updateOf(have vipObject, spec v1alpha1.VIPSpec) ([]byte, error) {
	return json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": have.version, "uid": have.uid},
		"spec": map[string]any{
			"pool": spec.Pool, "services": spec.Services, "usedBy": spec.UsedBy, "sharing": spec.Sharing, "reservedFor": spec.ReservedFor,
		},
	})
}

// delete deletes a VIP, but only the version that is known: another controller may just have given it to somebody.
func (a *allocator) delete(ctx context.Context, addr netip.Addr, have vipObject) (bool, error) {
	err := a.client.Delete(ctx, cluster.VIPName(addr), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &have.uid, ResourceVersion: &have.version}})
	if apierrors.IsConflict(err) {
		return a.again(ctx, addr, have, ipam.Claim{})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return false, wrapVIP("delete", addr, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	// Nobody's until the watch has shown that it is gone: what it shows before that is old.
	if w, exists := a.written[addr]; exists && w.uid == have.uid {
		delete(a.written, addr)
		a.leaving[addr] = have.uid
		a.index.Hold(addr, ipam.Claim{Pool: have.claim.Pool})
	}
	return true, nil
}

// again repeats a write after a conflict, if only the status had changed: nodes write that, and it does not matter here.
func (a *allocator) again(ctx context.Context, addr netip.Addr, have vipObject, want ipam.Claim) (bool, error) {
	if err := a.reread(ctx, addr); err != nil {
		return false, err
	}
	a.mu.Lock()
	now, exists := a.written[addr]
	a.mu.Unlock()
	switch {
	case !exists || now.uid != have.uid || now.generation != have.generation || now.version == have.version:
		return false, nil
	case want.Equal(&ipam.Claim{}):
		return a.delete(ctx, addr, now)
	default:
		return a.update(ctx, addr, now, want)
	}
}

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
		(have.generation > o.generation || have.generation == o.generation && !have.claim.Equal(&o.claim))
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
			have.version = now.version
			a.written[addr] = have
		}
		return nil
	}
	a.written[addr] = now
	a.index.Hold(addr, now.claim)
	for _, u := range have.claim.Users {
		if !slices.ContainsFunc(now.claim.Users, func(v ipam.User) bool { return u.Service == v.Service }) {
			again = append(again, u.Service)
		}
	}
	for _, u := range now.claim.Users {
		if slices.ContainsFunc(a.index.HeldBy(u.Service), func(other netip.Addr) bool { return other != addr && other.Is4() == addr.Is4() }) {
			again = append(again, u.Service)
		}
	}
	return again
}

// vipGone takes notice of a VIP that does not exist any more. It reports what it was if somebody else deleted it.
func (a *allocator) vipGone(vip *v1alpha1.VIP) (was ipam.Claim, unasked bool) {
	addr, ok := addressOf(vip)
	if !ok {
		return was, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	w, exists := a.written[addr]
	unasked = exists && w.uid == vip.UID
	if unasked || a.leaving[addr] == vip.UID {
		a.forget(addr)
	}
	return w.claim, unasked
}

// restore promises an address to those who had it, if it is free.
func (a *allocator) restore(addr netip.Addr, c ipam.Claim) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, held := a.index.Claim(addr); !held {
		a.index.Hold(addr, c)
	}
}

func (a *allocator) forget(addr netip.Addr) {
	delete(a.written, addr)
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

var errBusy = errors.New("another change to the Service's addresses is under way")

func wrapVIP(verb string, a netip.Addr, err error) error {
	return fmt.Errorf("%s VIP %s: %w", verb, cluster.VIPName(a), err)
}
