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
	last [3][]netip.Addr
	done bool
}

// Set exempts exactly the queries to, and the replies from, the wanted addresses, and keeps the kernel from refusing queries
// at those that are ours, while nobody listens. The table is replaced in one transaction; with no address it is removed.
//
// A server that gives an address up first lets the replies alone stay exempt, until all are sent: the reply to a query
// that was not tracked would begin a connection of its own, and be changed if it collides with one that the service
// proxy's NAT keeps of the same client.
func (d *Driver) Set(_ context.Context, ours, queries, replies []netip.Addr) error {
	want := [3][]netip.Addr{}
	for i, addrs := range [][]netip.Addr{ours, queries, replies} {
		want[i] = slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)
	}
	some := len(ours)+len(queries)+len(replies) > 0
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("opening nftables: %w", err)
	}
	if d.done && slices.EqualFunc(want[:], d.last[:], slices.Equal) {
		_, err := c.ListTableOfFamily(tableName, nftables.TableFamilyINet)
		if exists := err == nil; exists && some || errors.Is(err, unix.ENOENT) && !some {
			return nil
		}
	}
	// Adding makes sure that there is a table to delete: then the transaction cannot fail for its absence.
	t := c.AddTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyINet})
	c.DelTable(t)
	if some {
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

// Probe returns an error if the kernel lacks what the table is made of: one that nobody sees is made and removed again in one
// transaction.
func Probe() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("opening nftables: %w", err)
	}
	t := c.AddTable(&nftables.Table{Name: tableName + "-probe", Family: nftables.TableFamilyINet})
	if err := addRules(c, t, [3][]netip.Addr{}); err != nil {
		return fmt.Errorf("building an nftables table: %w", err)
	}
	c.DelTable(t)
	err = c.Flush()
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("nftables: exemption from connection tracking: %w: run it with CAP_NET_ADMIN", err)
	case err != nil:
		return fmt.Errorf("nftables: exemption from connection tracking: %w: the kernel needs CONFIG_NF_TABLES_INET, CONFIG_NFT_CT", err)
	}
	return nil
}

// family is how the rules of an IP family find addresses in a packet.
type family struct {
	suffix       string
	nfproto      byte
	key          nftables.SetDatatype
	saddr, daddr uint32
	// length of an address, and of a header without options.
	length, header uint32
	// icmp is the protocol whose message of type and code unreachable[0] and [1] says that nobody listens at a port.
	icmp        byte
	unreachable [2]byte
}

// match is where a packet has the address and the port that a rule looks for: offsets in the network and the transport
// header (RFC 768, RFC 9293).
type match struct {
	set          *nftables.Set
	addr, portAt uint32
}

func addRules(c *nftables.Conn, t *nftables.Table, want [3][]netip.Addr) error {
	families := []family{
		{
			suffix: "4", nfproto: unix.NFPROTO_IPV4, key: nftables.TypeIPAddr, saddr: 12, daddr: 16, length: 4, header: 20,
			icmp: unix.IPPROTO_ICMP, unreachable: [2]byte{3, 3}, // RFC 792
		},
		{
			suffix: "6", nfproto: unix.NFPROTO_IPV6, key: nftables.TypeIP6Addr, saddr: 8, daddr: 24, length: 16, header: 40,
			icmp: unix.IPPROTO_ICMPV6, unreachable: [2]byte{1, 4}, // RFC 4443, 3.1
		},
	}
	matches := map[string][]match{}
	for _, f := range families {
		var of []match
		for i, m := range []struct {
			match
			name string
		}{
			{match{addr: f.saddr, portAt: 8 + f.header + 2}, "ours"}, // behind the ICMP header, the query's
			{match{addr: f.daddr, portAt: 2}, "queries"},
			{match{addr: f.saddr, portAt: 0}, "replies"},
		} {
			m.set = &nftables.Set{Table: t, Name: m.name + f.suffix, KeyType: f.key}
			var elements []nftables.SetElement
			for _, a := range want[i] {
				if uint32(len(a.AsSlice())) == f.length {
					elements = append(elements, nftables.SetElement{Key: a.AsSlice()})
				}
			}
			if err := c.AddSet(m.set, elements); err != nil {
				return err
			}
			of = append(of, m.match)
		}
		matches[f.suffix] = of
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
				for _, m := range matches[f.suffix][1:] {
					c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: f.notrack(m, proto)})
				}
			}
			if at.hook == nftables.ChainHookOutput {
				c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: f.silence(matches[f.suffix][0])})
			}
		}
	}
	return nil
}

func (f family) notrack(m match, proto byte) []expr.Any {
	return append(f.match(m, proto), f.port(m), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: portNumber()}, &expr.Notrack{})
}

// silence drops what the kernel sends to say that nobody listens at port 53: the message has the beginning of the query in
// it, whose header must be without options.
func (f family) silence(m match) []expr.Any {
	return append(f.match(m, f.icmp),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: f.unreachable[:]},
		f.port(m), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: portNumber()},
		&expr.Verdict{Kind: expr.VerdictDrop})
}

func (f family) match(m match, proto byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f.nfproto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: m.addr, Len: f.length},
		&expr.Lookup{SourceRegister: 1, SetName: m.set.Name, SetID: m.set.ID},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
	}
}

func (f family) port(m match) *expr.Payload {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: m.portAt, Len: 2}
}

func portNumber() []byte { return binary.BigEndian.AppendUint16(nil, port) }
