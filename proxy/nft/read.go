package nft

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/internal/nfnl"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// socket reads our tables.
type socket struct{ *nfnl.Conn }

// readAttempts is how often a read is done again when the tables change meanwhile.
const readAttempts = 5

// retry does a read until nobody interferes.
func retry(read func() error) error {
	var err error
	for range readAttempts {
		if err = read(); !errors.Is(err, nfnl.ErrInterrupted) {
			return err
		}
	}
	return err
}

// structure is a table without its elements.
type structure struct {
	exists bool
	flags  uint32
	// sets and chains by name; a chain without hook is the zero value.
	sets   map[string]shape
	chains map[string]hook
	// fingerprint changes when anybody makes, deletes, replaces or renames the table, a set, a chain or a rule, or gives a
	// chain another policy.
	fingerprint uint64
}

type hook struct {
	chainType        string
	number, priority uint32
	policy           uint32
}

// readStructure reads the table of a family.
func (s *socket) readStructure(f cluster.Family) (st structure, err error) {
	err = retry(func() error {
		st, err = s.readStructureOnce(f)
		return err
	})
	if err != nil {
		return st, fmt.Errorf("read table %s: %w", tableText(f), err)
	}
	return st, nil
}

func (s *socket) readStructureOnce(f cluster.Family) (structure, error) {
	st := structure{sets: map[string]shape{}, chains: map[string]hook{}}
	sum := fnv.New64a()
	w := newTableWriter(f)

	w.request(unix.NFT_MSG_GETTABLE, unix.NLM_F_ACK)
	err := s.Dump(&w.Writer, func(b []byte) {
		st.exists = true
		st.flags = nfnl.Uint32(nfnl.Attribute(b, unix.NFTA_TABLE_FLAGS))
		sum.Write(nfnl.Attribute(b, nftaTableHandle)) //nolint:errcheck // a hash never fails
	})
	if errors.Is(err, unix.ENOENT) {
		return st, nil
	}
	if err != nil {
		return st, err
	}

	w.request(unix.NFT_MSG_GETSET, unix.NLM_F_DUMP)
	err = s.Dump(&w.Writer, func(b []byte) {
		sh := shape{
			flags:    nfnl.Uint32(nfnl.Attribute(b, unix.NFTA_SET_FLAGS)),
			keyType:  nfnl.Uint32(nfnl.Attribute(b, unix.NFTA_SET_KEY_TYPE)),
			keyLen:   nfnl.Uint32(nfnl.Attribute(b, unix.NFTA_SET_KEY_LEN)),
			dataType: nfnl.Uint32(nfnl.Attribute(b, unix.NFTA_SET_DATA_TYPE)),
			dataLen:  nfnl.Uint32(nfnl.Attribute(b, unix.NFTA_SET_DATA_LEN)),
		}
		if sh.dataType == typeVerdict {
			sh.dataLen = 0 // the kernel tells the size of its own structure
		}
		st.sets[nfnl.Text(nfnl.Attribute(b, unix.NFTA_SET_NAME))] = sh
		sum.Write(nfnl.Attribute(b, nftaSetHandle)) //nolint:errcheck // a hash never fails
	})
	if err != nil {
		return st, err
	}

	w.request(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP)
	err = s.Dump(&w.Writer, func(b []byte) {
		// The kernel lists the chains of all tables of the family.
		if nfnl.Text(nfnl.Attribute(b, unix.NFTA_CHAIN_TABLE)) != ruleset.TableName {
			return
		}
		h := nfnl.Attribute(b, unix.NFTA_CHAIN_HOOK)
		st.chains[nfnl.Text(nfnl.Attribute(b, unix.NFTA_CHAIN_NAME))] = hook{
			chainType: nfnl.Text(nfnl.Attribute(b, unix.NFTA_CHAIN_TYPE)),
			number:    nfnl.Uint32(nfnl.Attribute(h, unix.NFTA_HOOK_HOOKNUM)),
			priority:  nfnl.Uint32(nfnl.Attribute(h, unix.NFTA_HOOK_PRIORITY)),
			policy:    nfnl.Uint32(nfnl.Attribute(b, unix.NFTA_CHAIN_POLICY)),
		}
		for _, t := range []uint16{unix.NFTA_CHAIN_HANDLE, unix.NFTA_CHAIN_NAME, unix.NFTA_CHAIN_HOOK, unix.NFTA_CHAIN_POLICY} {
			sum.Write(nfnl.Attribute(b, t)) //nolint:errcheck // a hash never fails
		}
	})
	if err != nil {
		return st, err
	}

	w.request(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP)
	err = s.Dump(&w.Writer, func(b []byte) {
		sum.Write(nfnl.Attribute(b, unix.NFTA_RULE_HANDLE)) //nolint:errcheck // a hash never fails
	})
	st.fingerprint = sum.Sum64()
	return st, err
}

// fits reports whether the wanted table can be made by changing chains, rules and elements.
func (st *structure) fits(want *ruleset.Table) bool {
	if !st.exists || st.flags != 0 || len(st.sets) != len(ruleset.AllSets()) {
		return false
	}
	for _, id := range ruleset.AllSets() {
		spec := id.Spec()
		if s, ok := st.sets[spec.Name]; !ok || s != shapeOf(spec, want.Family) {
			return false
		}
	}
	base := 0
	for _, c := range want.Chains {
		h, ok := st.chains[c.Name]
		if ok && h != hookOf(c) {
			return false
		}
		if ok && c.Hook != nil {
			base++
		}
	}
	for _, h := range st.chains {
		if h != (hook{}) {
			base--
		}
	}
	return base == 0
}

func hookOf(c ruleset.Chain) hook {
	if c.Hook == nil {
		return hook{}
	}
	return hook{c.Hook.Type, hookNumber(c.Hook.Hook), uint32(c.Hook.Priority), nfAccept}
}

// readElements reads the elements of all sets that rules do not fill themselves.
func (s *socket) readElements(f cluster.Family) ([]ruleset.Element, error) {
	var out []ruleset.Element
	w := newTableWriter(f)
	for _, id := range ruleset.AllSets() {
		spec := id.Spec()
		if spec.Dynamic {
			continue
		}
		n := len(out)
		err := retry(func() error {
			out = slices.Delete(out, n, len(out))
			w.Reset()
			w.start(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP)
			w.Text(unix.NFTA_SET_ELEM_LIST_SET, spec.Name)
			w.Finish()
			return s.Dump(&w.Writer, func(b []byte) {
				nfnl.Attributes(nfnl.Attribute(b, unix.NFTA_SET_ELEM_LIST_ELEMENTS), func(_ uint16, item []byte) {
					out = append(out, decodeElement(id, item))
				})
			})
		})
		if err != nil {
			return nil, fmt.Errorf("read set %s of table %s: %w", spec.Name, tableText(f), err)
		}
	}
	return out, nil
}

func decodeElement(id ruleset.SetID, item []byte) ruleset.Element {
	e := ruleset.Element{Set: id}
	nfnl.Attributes(item, func(t uint16, b []byte) {
		switch t {
		case unix.NFTA_SET_ELEM_KEY:
			e.Key = string(nfnl.Attribute(b, unix.NFTA_DATA_VALUE))
		case nftaSetElemKeyEnd:
			e.End = string(nfnl.Attribute(b, unix.NFTA_DATA_VALUE))
		case unix.NFTA_SET_ELEM_DATA:
			if v := nfnl.Attribute(b, unix.NFTA_DATA_VERDICT); v != nil {
				e.Value = verdictText(v)
			} else {
				e.Value = string(nfnl.Attribute(b, unix.NFTA_DATA_VALUE))
			}
		}
	})
	return e
}

func verdictText(b []byte) string {
	chain := nfnl.Text(nfnl.Attribute(b, unix.NFTA_VERDICT_CHAIN))
	switch expr.VerdictKind(int32(nfnl.Uint32(nfnl.Attribute(b, unix.NFTA_VERDICT_CODE)))) {
	case expr.VerdictGoto:
		return string(ruleset.Goto(chain))
	case expr.VerdictJump:
		return string(ruleset.Jump(chain))
	case expr.VerdictAccept:
		return string(ruleset.Accept)
	default:
		return string(ruleset.Drop)
	}
}

// generation returns the number of transactions that the network namespace has seen.
func (s *socket) generation() (uint32, error) {
	var w nfnl.Writer
	w.Message(unix.NFT_MSG_GETGEN, unix.NLM_F_REQUEST|unix.NLM_F_ACK, unix.AF_UNSPEC)
	w.Finish()
	var gen uint32
	err := s.Dump(&w, func(b []byte) { gen = nfnl.Uint32(nfnl.Attribute(b, unix.NFTA_GEN_ID)) })
	if err != nil {
		return 0, fmt.Errorf("read the generation of nf_tables: %w", err)
	}
	return gen, nil
}

func tableText(f cluster.Family) string {
	if f == cluster.IPv6 {
		return "ip6 " + ruleset.TableName
	}
	return "ip " + ruleset.TableName
}
