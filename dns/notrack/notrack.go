package notrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	tableName = "seamark-dns"
	port      = 53
)

// Driver owns the table in the network namespace of the thread that calls Set. It needs CAP_NET_ADMIN. It is not for
// concurrent use.
type Driver struct {
	// last is what Set did last: the table is written anew only for a change, or if somebody removed it.
	last []netip.Addr
	done bool
}

// Set exempts exactly the wanted addresses. The table is replaced in one transaction; with no address it is removed.
func (d *Driver) Set(_ context.Context, want []netip.Addr) error {
	want = slices.SortedFunc(slices.Values(want), netip.Addr.Compare)
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("opening nftables: %w", err)
	}
	if d.done && slices.Equal(want, d.last) {
		_, err := c.ListTableOfFamily(tableName, nftables.TableFamilyINet)
		if exists := err == nil; exists && len(want) > 0 || errors.Is(err, unix.ENOENT) && len(want) == 0 {
			return nil
		}
	}
	// Adding makes sure that there is a table to delete: then the transaction cannot fail for its absence.
	t := c.AddTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyINet})
	c.DelTable(t)
	if len(want) > 0 {
		c.AddTable(t)
		if err := addRules(c, t, want); err != nil {
			return fmt.Errorf("building the nftables table %s: %w", tableName, err)
		}
	}
	if err := c.Flush(); err != nil {
		d.done = false
		return fmt.Errorf("writing the nftables table %s: %w", tableName, err)
	}
	d.last, d.done = want, true
	return nil
}

// family is how the rules of an IP family find the addresses in a packet.
type family struct {
	set          *nftables.Set
	nfproto      byte
	saddr, daddr uint32
	length       uint32
}

func addRules(c *nftables.Conn, t *nftables.Table, want []netip.Addr) error {
	families := []family{
		{set: &nftables.Set{Table: t, Name: "addresses4", KeyType: nftables.TypeIPAddr}, nfproto: unix.NFPROTO_IPV4, saddr: 12, daddr: 16, length: 4},
		{set: &nftables.Set{Table: t, Name: "addresses6", KeyType: nftables.TypeIP6Addr}, nfproto: unix.NFPROTO_IPV6, saddr: 8, daddr: 24, length: 16},
	}
	for _, f := range families {
		var elements []nftables.SetElement
		for _, a := range want {
			if uint32(len(a.AsSlice())) == f.length {
				elements = append(elements, nftables.SetElement{Key: a.AsSlice()})
			}
		}
		if err := c.AddSet(f.set, elements); err != nil {
			return err
		}
	}
	policy := nftables.ChainPolicyAccept
	for _, at := range []struct {
		name string
		hook *nftables.ChainHook
	}{
		{"prerouting", nftables.ChainHookPrerouting},
		{"output", nftables.ChainHookOutput},
	} {
		chain := c.AddChain(&nftables.Chain{
			Table: t, Name: at.name, Type: nftables.ChainTypeFilter,
			Hooknum: at.hook, Priority: nftables.ChainPriorityRaw, Policy: &policy,
		})
		for _, f := range families {
			for _, proto := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
				// Offsets of source and destination port: RFC 768, RFC 9293.
				c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: f.rule(f.daddr, proto, 2)})
				c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: f.rule(f.saddr, proto, 0)})
			}
		}
	}
	return nil
}

func (f family) rule(addr uint32, proto byte, portAt uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f.nfproto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: addr, Len: f.length},
		&expr.Lookup{SourceRegister: 1, SetName: f.set.Name, SetID: f.set.ID},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: portAt, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, port)},
		&expr.Notrack{},
	}
}
