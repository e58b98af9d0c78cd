package nft

import (
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/internal/nfnl"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// Attributes and flags that package unix lacks.
const (
	nftaSetElemKeyEnd  = 10
	nftaSetDescConcat  = 2
	nftaSetFieldLength = 1
	nftSetConcat       = 0x80
	nftaTableHandle    = 4
	nftaSetHandle      = 16
	nfAccept           = 1
)

// maxElementBytes limits the elements in one message: they are one attribute, whose length has 16 bits.
const maxElementBytes = 60_000

// tableWriter writes the messages for the table of one family.
type tableWriter struct {
	nfnl.Writer
	encoder
	specs []ruleset.Spec
	// table is the table's name.
	table string
}

func newTableWriter(f cluster.Family) *tableWriter {
	w := &tableWriter{encoder: encoder{f}, table: ruleset.TableName}
	for _, id := range ruleset.AllSets() {
		w.specs = append(w.specs, id.Spec())
	}
	return w
}

// start begins a message about our table. The attribute that holds the table's name has the same number in every kind of
// message: NFTA_TABLE_NAME, NFTA_SET_TABLE, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_ELEM_LIST_TABLE.
func (w *tableWriter) start(msgType, flags uint16) {
	w.Message(msgType, unix.NLM_F_REQUEST|flags, w.nf())
	w.Text(unix.NFTA_TABLE_NAME, w.table)
}

func (w *tableWriter) addTable() {
	w.start(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
	w.Uint32(unix.NFTA_TABLE_FLAGS, 0)
	w.Finish()
}

func (w *tableWriter) deleteTable() {
	w.start(unix.NFT_MSG_DELTABLE, 0)
	w.Finish()
}

func (w *tableWriter) addSet(id ruleset.SetID) {
	spec := w.specs[id]
	w.start(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE)
	w.Text(unix.NFTA_SET_NAME, spec.Name)
	w.Uint32(unix.NFTA_SET_ID, uint32(id)+1)
	shape := shapeOf(spec, w.family)
	w.Uint32(unix.NFTA_SET_FLAGS, shape.flags)
	w.Uint32(unix.NFTA_SET_KEY_TYPE, shape.keyType)
	w.Uint32(unix.NFTA_SET_KEY_LEN, shape.keyLen)
	if spec.Value != nil {
		w.Uint32(unix.NFTA_SET_DATA_TYPE, shape.dataType)
		w.Uint32(unix.NFTA_SET_DATA_LEN, shape.dataLen)
	}
	switch {
	case spec.Dynamic:
		desc := w.Nest(unix.NFTA_SET_DESC)
		w.Uint32(unix.NFTA_SET_DESC_SIZE, spec.Size)
		w.Close(desc)
	case spec.Interval:
		// The lengths of the fields are part of the set's type.
		desc := w.Nest(unix.NFTA_SET_DESC)
		concat := w.Nest(nftaSetDescConcat)
		for _, t := range spec.Key {
			field := w.Nest(unix.NFTA_LIST_ELEM)
			w.Uint32(nftaSetFieldLength, fieldLength(t, w.family))
			w.Close(field)
		}
		w.Close(concat)
		w.Close(desc)
	}
	w.Bytes(unix.NFTA_SET_USERDATA, setUserdata(spec, w.family))
	w.Finish()
}

func (w *tableWriter) addChain(c ruleset.Chain) {
	w.start(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE)
	w.Text(unix.NFTA_CHAIN_NAME, c.Name)
	if c.Hook != nil {
		hook := w.Nest(unix.NFTA_CHAIN_HOOK)
		w.Uint32(unix.NFTA_HOOK_HOOKNUM, hookNumber(c.Hook.Hook))
		w.Uint32(unix.NFTA_HOOK_PRIORITY, uint32(c.Hook.Priority))
		w.Close(hook)
		w.Uint32(unix.NFTA_CHAIN_POLICY, nfAccept)
		w.Text(unix.NFTA_CHAIN_TYPE, c.Hook.Type)
	}
	w.Finish()
}

// setRules replaces the rules of a chain.
func (w *tableWriter) setRules(c ruleset.Chain) error {
	w.flushChain(c.Name)
	for _, r := range c.Rules {
		w.start(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
		w.Text(unix.NFTA_RULE_CHAIN, c.Name)
		exprs := w.Nest(unix.NFTA_RULE_EXPRESSIONS)
		for _, x := range w.rule(r) {
			b, err := expr.Marshal(w.nf(), x)
			if err != nil {
				return fmt.Errorf("encode a rule of chain %s: %w", c.Name, err)
			}
			w.Bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, b)
		}
		w.Close(exprs)
		w.Finish()
	}
	return nil
}

func (w *tableWriter) flushChain(name string) {
	w.start(unix.NFT_MSG_DELRULE, 0)
	w.Text(unix.NFTA_RULE_CHAIN, name)
	w.Finish()
}

func (w *tableWriter) deleteChain(name string) {
	w.start(unix.NFT_MSG_DELCHAIN, 0)
	w.Text(unix.NFTA_CHAIN_NAME, name)
	w.Finish()
}

func (w *tableWriter) addElements(elements []ruleset.Element) {
	w.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, elements)
}

func (w *tableWriter) deleteElements(elements []ruleset.Element) {
	w.elements(unix.NFT_MSG_DELSETELEM, 0, elements)
}

// elements writes one message for each run of elements of the same set that fits into one.
func (w *tableWriter) elements(msgType, flags uint16, elements []ruleset.Element) {
	for len(elements) > 0 {
		id := elements[0].Set
		spec := &w.specs[id]
		w.start(msgType, flags)
		w.Text(unix.NFTA_SET_ELEM_LIST_SET, spec.Name)
		list := w.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		for len(elements) > 0 && elements[0].Set == id && w.Len()-list < maxElementBytes {
			w.element(spec, elements[0])
			elements = elements[1:]
		}
		w.Close(list)
		w.Finish()
	}
}

func (w *tableWriter) element(spec *ruleset.Spec, e ruleset.Element) {
	item := w.Nest(unix.NFTA_LIST_ELEM)
	w.Data(unix.NFTA_SET_ELEM_KEY, e.Key)
	if e.End != "" {
		w.Data(nftaSetElemKeyEnd, e.End)
	}
	switch {
	case spec.Value == nil:
	case spec.Value[0] == ruleset.VerdictType:
		v := verdict(ruleset.Verdict(e.Value))
		data := w.Nest(unix.NFTA_SET_ELEM_DATA)
		nest := w.Nest(unix.NFTA_DATA_VERDICT)
		w.Uint32(unix.NFTA_VERDICT_CODE, uint32(v.Kind))
		if v.Chain != "" {
			w.Text(unix.NFTA_VERDICT_CHAIN, v.Chain)
		}
		w.Close(nest)
		w.Close(data)
	default:
		w.Data(unix.NFTA_SET_ELEM_DATA, e.Value)
	}
	w.Close(item)
}

// request writes a message that reads.
func (w *tableWriter) request(msgType, flags uint16) {
	w.Reset()
	w.start(msgType, flags)
	w.Finish()
}

func hookNumber(h ruleset.HookName) uint32 {
	switch h {
	case ruleset.Prerouting:
		return unix.NF_INET_PRE_ROUTING
	case ruleset.Input:
		return unix.NF_INET_LOCAL_IN
	case ruleset.Forward:
		return unix.NF_INET_FORWARD
	case ruleset.Output:
		return unix.NF_INET_LOCAL_OUT
	default:
		return unix.NF_INET_POST_ROUTING
	}
}
