package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/internal/nfnl"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// probeTable is the name of a table that never comes to be.
const probeTable = ruleset.TableName + "-probe"

// feature is something that our tables need of the kernel.
type feature struct {
	// name says what it is, need what the kernel must be built with or be.
	name, need string
	sets       []ruleset.SetID
	hook       *ruleset.Hook
	rules      []ruleset.Rule
}

// features returns all that our table of a family is made of, what others need first.
func features(f cluster.Family) []feature {
	world := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if f == cluster.IPv6 {
		world = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	frontend := ruleset.Key{{Type: ruleset.Daddr}, {Type: ruleset.L4Proto}, {Type: ruleset.Dport}}
	slot := append(frontend[:3:3], ruleset.Field{Type: ruleset.RandomSlot, Mod: 2})
	client := append(ruleset.Key{{Type: ruleset.Saddr}}, frontend...)
	nat := &ruleset.Hook{Type: "nat", Hook: ruleset.Prerouting, Priority: -100}
	after := &ruleset.Hook{Type: "nat", Hook: ruleset.Postrouting, Priority: 100}
	filter := &ruleset.Hook{Type: "filter", Hook: ruleset.Forward}
	return []feature{
		{name: "tables", need: "CONFIG_NF_TABLES, CONFIG_NF_TABLES_IPV4 and _IPV6"},
		{name: "filter chains", need: "CONFIG_NF_TABLES", hook: filter, rules: []ruleset.Rule{
			{ruleset.EchoRequest{}, ruleset.Accept}, {ruleset.NeighborDiscovery{}, ruleset.Drop}, {ruleset.Source{Prefix: world}}, {ruleset.Destination{Prefix: world}},
			{ruleset.Marked{}, ruleset.Mark{}, ruleset.Unmark{}},
		}},
		{name: "connection tracking", need: "CONFIG_NF_CONNTRACK, CONFIG_NFT_CT", hook: filter, rules: []ruleset.Rule{
			{ruleset.State{States: ruleset.New}, ruleset.Translated{}},
		}},
		{name: "NAT", need: "CONFIG_NF_NAT, CONFIG_NFT_NAT", hook: nat},
		{name: "maps of verdicts", need: "CONFIG_NF_TABLES", sets: []ruleset.SetID{ruleset.Services}, hook: nat, rules: []ruleset.Rule{
			{ruleset.Vmap{Key: frontend, Map: ruleset.Services}},
		}},
		{name: "a random choice of endpoints", need: "CONFIG_NFT_NUMGEN, CONFIG_NFT_NAT", sets: []ruleset.SetID{ruleset.Endpoints}, hook: nat, rules: []ruleset.Rule{
			{ruleset.DNAT{Key: slot, Map: ruleset.Endpoints}},
		}},
		{name: "masquerading", need: "CONFIG_NFT_MASQ", hook: after, rules: []ruleset.Rule{{ruleset.Masquerade{}}}},
		{name: "rejection", need: "CONFIG_NFT_REJECT, CONFIG_NFT_REJECT_IPV4 and _IPV6", hook: filter, rules: []ruleset.Rule{{ruleset.Reset{}}, {ruleset.Reject{}}}},
		{name: "a look at the routing table", need: "CONFIG_NFT_FIB, CONFIG_NFT_FIB_IPV4 and _IPV6", hook: filter, rules: []ruleset.Rule{
			{ruleset.SourceIsLocal{}}, {ruleset.DestinationIsElsewhere{}},
		}},
		{name: "sets of address ranges", need: "Linux 5.6", sets: []ruleset.SetID{ruleset.Sources}, hook: filter, rules: []ruleset.Rule{
			{ruleset.In{Key: append(frontend[:3:3], ruleset.Field{Type: ruleset.Saddr}), Set: ruleset.Sources}},
		}},
		{name: "maps that rules fill", need: "CONFIG_NF_TABLES", sets: []ruleset.SetID{ruleset.AffinityClients}, hook: nat, rules: []ruleset.Rule{
			{ruleset.SetPriority{Key: client, Map: ruleset.AffinityClients}},
			{ruleset.Remember{Key: client, Map: ruleset.AffinityClients, Timeout: time.Hour}},
			{ruleset.Forget{Key: client, Map: ruleset.AffinityClients}},
		}},
	}
}

// Missing is something that the kernel lacks, or does not let this process use.
type Missing struct {
	Family cluster.Family
	// Name says what it is, Need what the kernel must be built with or be.
	Name, Need string
	Err        error
}

// Error implements error.
func (m *Missing) Error() string {
	if errors.Is(m.Err, unix.EPERM) || errors.Is(m.Err, unix.EACCES) {
		return fmt.Sprintf("nftables: %s (%s): %v: run it with CAP_NET_ADMIN", m.Name, m.Family, m.Err)
	}
	return fmt.Sprintf("nftables: %s (%s): %v: the kernel needs %s", m.Name, m.Family, m.Err, m.Need)
}

// Probe finds out whether the kernel has all that our tables of the families need: each thing is asked for in a transaction
// on a table of its own, which is never completed. The error joins a *Missing for each thing that is missing.
func Probe(families ...cluster.Family) error {
	conn, err := nfnl.Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	return probe(conn, families, features)
}

func probe(conn *nfnl.Conn, families []cluster.Family, features func(cluster.Family) []feature) error {
	var errs []error
	for _, f := range families {
		w := newTableWriter(f)
		w.table = probeTable
		for _, want := range features(f) {
			if err := want.write(w); err != nil {
				return err
			}
			if err := conn.Commit(&w.Writer); err != nil {
				errs = append(errs, &Missing{Family: f, Name: want.name, Need: want.need, Err: err})
			}
		}
	}
	return errors.Join(errs...)
}

func (want *feature) write(w *tableWriter) error {
	w.BeginBatch()
	w.addTable()
	for _, id := range want.sets {
		w.addSet(id)
	}
	if want.hook != nil {
		c := ruleset.Chain{Name: "probe", Hook: want.hook, Rules: want.rules}
		w.addChain(c)
		if err := w.setRules(c); err != nil {
			return err
		}
	}
	w.LeaveBatchOpen()
	return nil
}
