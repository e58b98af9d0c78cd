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
	hooks  hooks

	mu    sync.Mutex
	index *ipam.Index
	// written are the VIPs that exist. Claims of the index without one are promised to a Service and not written yet.
	written map[netip.Addr]vipObject
	// ending are VIPs that exist and are about to be deleted; leaving those that were deleted here and that the watch still
	// shows. Until it does not, the address is nobody's: the index has a claim without Services on it.
	ending  map[netip.Addr]struct{}
	leaving map[netip.Addr]types.UID
	// busy are the Services that addresses are being written for.
	busy map[cluster.Name]struct{}
	// suspect are claims that the last sweep found no object for.
	suspect map[netip.Addr]struct{}
	// openings counts what may let a Service have what it waits for; served is what it was when all that wait were last
	// looked at.
	openings, served uint64
}

// hooks are what an allocator tells and asks. They are called with its lock held: they must not call it back.
type hooks struct {
	// clashed counts the writes that the API server refused because somebody else was faster.
	clashed func()
	// opened is told of an opening.
	opened func()
	// queued reports whether any Service waits.
	queued func() bool
}

func newAllocator(c client.VIPs, h hooks) *allocator {
	return &allocator{
		client: c, hooks: h, index: ipam.NewIndex(),
		written: map[netip.Addr]vipObject{}, ending: map[netip.Addr]struct{}{}, leaving: map[netip.Addr]types.UID{},
		busy: map[cluster.Name]struct{}{},
	}
}

func (a *allocator) setPools(pools []ipam.Pool, refused map[string]ipam.Refused) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index.SetPools(pools, refused)
	a.opening()
}

// describe notes what a Service wants.
func (a *allocator) describe(r ipam.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.index.Describe(r) {
		a.opening()
	}
}

// undescribe notes that a Service wants nothing any more.
func (a *allocator) undescribe(s cluster.Name) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.index.Forget(s) {
		a.opening()
	}
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
			a.hold(c.Addr, c.Claim)
			news = true
		}
	}
	return d, news
}

// moves reports whether a request would be answered otherwise than by what the Service has.
func (a *allocator) moves(r ipam.Request) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.index.Decide(r)
	return d.Problem != nil || a.takes(r.Service, d)
}

// takes reports whether a decision gives the Service an address that it does not use yet; mu is held.
func (a *allocator) takes(s cluster.Name, d ipam.Decision) bool {
	held := a.index.HeldBy(s)
	return slices.ContainsFunc(d.Addresses, func(addr netip.Addr) bool { return !slices.Contains(held, addr) })
}

// set makes the index say what was decided; mu is held. An address that has a VIP is not free before that is gone.
func (a *allocator) set(changes []ipam.Change) {
	for _, c := range changes {
		w, exists := a.written[c.Addr]
		switch {
		case c.Claim != nil:
			a.hold(c.Addr, c.Claim)
		case exists:
			a.index.Hold(c.Addr, &ipam.Claim{Pool: w.claim.Pool})
			a.ending[c.Addr] = struct{}{}
		default:
			a.free(c.Addr)
		}
	}
}

// ensured is what came of a request.
type ensured struct {
	ipam.Decision
	// left are the addresses whose VIPs are to be created with the status.
	left []netip.Addr
	// wrote is true when VIPs have been written.
	wrote bool
	// at is the number of openings when it was decided.
	at uint64
}

// ensure decides a request and writes the VIPs that the decision needs, until API server and decision agree. With together
// it leaves VIPs that are only to be created to the caller, who writes them with writeAll when it writes the status. Unless
// the Service jumps the queue, the error is errQueue when it would take what others wait for that have not been looked at
// since it is there.
func (a *allocator) ensure(ctx context.Context, r ipam.Request, together, jump bool) (e ensured, err error) {
	if !a.enter(r.Service) {
		return e, errBusy
	}
	defer a.leave(r.Service)
	for range mostRounds {
		a.mu.Lock()
		e.Decision, e.at = a.index.Decide(r), a.openings
		d := &e.Decision
		if !jump && a.openings != a.served && a.takes(r.Service, *d) && a.hooks.queued() {
			a.mu.Unlock()
			return e, errQueue
		}
		a.set(d.Changes)
		write := a.unwritten(*d)
		if d.Problem != nil {
			d.Addresses = slices.DeleteFunc(d.Addresses, a.withdraw)
			write = slices.DeleteFunc(write, func(addr netip.Addr) bool { _, held := a.index.Claim(addr); return !held })
		}
		onlyNew := !slices.ContainsFunc(write, func(addr netip.Addr) bool { _, exists := a.written[addr]; return exists })
		a.mu.Unlock()
		if len(write) == 0 || together && onlyNew {
			e.left = write
			return e, nil
		}
		if _, err := a.writeAll(ctx, write); err != nil {
			return e, err
		}
		e.wrote = true
	}
	return ensured{}, fmt.Errorf("the VIPs of Service %s have changed %d times while they were written", r.Service, mostRounds)
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
	a.free(addr)
	return true
}

// release gives back all addresses of a Service, unless it is still to have them: it may have come back just now.
func (a *allocator) release(ctx context.Context, s cluster.Name, still func(cluster.Name) bool) error {
	if !a.enter(s) {
		return errBusy
	}
	defer a.leave(s)
	if still(s) {
		return nil
	}
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
		a.hold(addr, w.claim)
	} else if _, leaving := a.leaving[addr]; !leaving {
		a.free(addr)
	}
}

// write makes one VIP what the index says.
func (a *allocator) write(ctx context.Context, addr netip.Addr) (ok bool, err error) {
	a.mu.Lock()
	want, wanted := a.index.Claim(addr)
	have, exists := a.written[addr]
	if _, ending := a.ending[addr]; ending {
		wanted = false
	}
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
		a.hooks.clashed()
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
		delete(a.ending, addr)
		a.leaving[addr] = have.uid
		a.index.Hold(addr, &ipam.Claim{Pool: have.claim.Pool})
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

var (
	errBusy  = errors.New("another change to the Service's addresses is under way")
	errQueue = errors.New("others wait for what the Service would take")
)

func wrapVIP(verb string, a netip.Addr, err error) error {
	return fmt.Errorf("%s VIP %s: %w", verb, cluster.VIPName(a), err)
}
