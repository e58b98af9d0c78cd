package ping

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"

	"github.com/seamark-io/seamark/speaker/plan"
)

// Table is the name of the driver's table, of the family inet.
const Table = "seamark-ping"

const (
	// chunk bounds the elements of one netlink message: the length of an attribute has 16 bits.
	chunk = 1024
	// sendBuffer holds a transaction: it is sent at once, or not at all (EMSGSIZE). 10,000 VIPs take some 500 KiB.
	sendBuffer = 8 << 20
)

// Responder keeps the table. Its methods may be called from any goroutine.
type Responder struct {
	mu sync.Mutex
	// have is what the rules in the kernel redirect to; nil until this process has made the table. vips are those in its
	// sets, sorted. doubted: the next Set looks whether that is so.
	have    *redirect
	vips    []netip.Addr
	doubted bool
}

// redirect are the addresses that echo requests are handed to; invalid: none of that family.
type redirect struct{ ipv4, ipv6 netip.Addr }

// New returns a Responder that has done nothing.
func New() *Responder { return &Responder{} }

// Set makes the host answer for the wanted VIPs and for no others, in one transaction. The first Set of a process replaces
// what an earlier one left. Later ones change what differs from the last; after Doubt they mend what was changed behind their back.
func (r *Responder) Set(_ context.Context, wanted plan.Ping) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	to := redirect{wanted.IPv4, wanted.IPv6}
	vips := slices.SortedFunc(slices.Values(wanted.VIPs), netip.Addr.Compare)
	made := r.have != nil && *r.have == to
	if made && !r.doubted && slices.Equal(r.vips, vips) {
		return nil
	}
	conn, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error { return c.SetWriteBuffer(sendBuffer) }))
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	switch {
	case made && !r.doubted:
		err = r.follow(conn, vips)
	case !made || !r.update(conn, wanted):
		err = rebuild(conn, wanted)
	}
	if err == nil {
		err = conn.Flush()
	}
	if err != nil {
		r.have = nil
		return fmt.Errorf("change table inet %s: %w", Table, err)
	}
	r.have, r.vips, r.doubted = &to, vips, false
	return nil
}

// Doubt has the next Set compare with what the kernel has. Of some thousand VIPs that takes the kernel and this process tens of
// milliseconds: it is for when nothing happens.
func (r *Responder) Doubt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.doubted = true
}

// follow queues the difference between the VIPs of the last Set and those of this one.
func (r *Responder) follow(conn *nftables.Conn, vips []netip.Addr) error {
	missing := func(from, in []netip.Addr, set *nftables.Set) (out []netip.Addr) {
		for _, a := range from {
			if _, found := slices.BinarySearchFunc(in, a, netip.Addr.Compare); !found && holds(set, a) {
				out = append(out, a)
			}
		}
		return out
	}
	for _, set := range sets(&nftables.Table{Name: Table, Family: nftables.TableFamilyINet}) {
		err := change(missing(r.vips, vips, set), func(e []nftables.SetElement) error { return conn.SetDeleteElements(set, e) })
		if err == nil {
			err = change(missing(vips, r.vips, set), func(e []nftables.SetElement) error { return conn.SetAddElements(set, e) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Remove removes the table, if it is there.
func (r *Responder) Remove(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	conn.DelTable(conn.AddTable(&nftables.Table{Name: Table, Family: nftables.TableFamilyINet})) // adding one that exists does nothing
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("remove table inet %s: %w", Table, err)
	}
	r.have = nil
	return nil
}

// update queues the difference between the kernel's sets and the wanted ones. It returns false when the table is not
// there or not as it was made.
func (r *Responder) update(conn *nftables.Conn, wanted plan.Ping) bool {
	table := &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
	inKernel, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false
	}
	for _, c := range chains(table) {
		found := slices.ContainsFunc(inKernel, func(k *nftables.Chain) bool { return k.Table.Name == Table && k.Name == c.Name })
		if !found {
			return false
		}
		if rules, err := conn.GetRules(table, c); err != nil || len(rules) != len(rulesOf(c.Name, nil, nil, *r.have)) {
			return false
		}
	}
	for _, set := range sets(table) {
		elements, err := conn.GetSetElements(set)
		if err != nil {
			return false
		}
		have := make(map[netip.Addr]struct{}, len(elements))
		for _, e := range elements {
			if a, ok := netip.AddrFromSlice(e.Key); ok {
				have[a] = struct{}{}
			}
		}
		var add []netip.Addr
		for _, a := range wanted.VIPs {
			if !holds(set, a) {
				continue
			}
			if _, ok := have[a]; !ok {
				add = append(add, a)
			}
			delete(have, a)
		}
		var remove []netip.Addr
		for a := range have {
			remove = append(remove, a)
		}
		if change(remove, func(e []nftables.SetElement) error { return conn.SetDeleteElements(set, e) }) != nil ||
			change(add, func(e []nftables.SetElement) error { return conn.SetAddElements(set, e) }) != nil {
			return false
		}
	}
	return true
}

// rebuild queues the whole table. Deleting and making it are one transaction: no packet sees it missing.
func rebuild(conn *nftables.Conn, wanted plan.Ping) error {
	table := conn.AddTable(&nftables.Table{Name: Table, Family: nftables.TableFamilyINet})
	conn.DelTable(table)
	table = conn.AddTable(table)
	both := sets(table)
	for _, set := range both {
		if err := conn.AddSet(set, nil); err != nil {
			return err
		}
		var vips []netip.Addr
		for _, a := range wanted.VIPs {
			if holds(set, a) {
				vips = append(vips, a)
			}
		}
		if err := change(vips, func(e []nftables.SetElement) error { return conn.SetAddElements(set, e) }); err != nil {
			return err
		}
	}
	for _, c := range chains(table) {
		conn.AddChain(c)
		for _, exprs := range rulesOf(c.Name, both[0], both[1], redirect{wanted.IPv4, wanted.IPv6}) {
			conn.AddRule(&nftables.Rule{Table: table, Chain: c, Exprs: exprs})
		}
	}
	return nil
}

func holds(set *nftables.Set, a netip.Addr) bool { return a.Is4() == (set.Name == "vips4") }

func change(addrs []netip.Addr, do func([]nftables.SetElement) error) error {
	for part := range slices.Chunk(addrs, chunk) {
		elements := make([]nftables.SetElement, len(part))
		for i, a := range part {
			elements[i].Key = a.AsSlice()
		}
		if err := do(elements); err != nil {
			return err
		}
	}
	return nil
}
