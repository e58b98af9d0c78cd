package nft

import (
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/cluster"
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
	writer
	encoder
	specs []ruleset.Spec
}

func newTableWriter(f cluster.Family) *tableWriter {
	w := &tableWriter{encoder: encoder{f}}
	for _, id := range ruleset.AllSets() {
		w.specs = append(w.specs, id.Spec())
	}
	return w
}

// begin starts a transaction, end completes it and asks for an answer.
func (w *tableWriter) begin() {
	w.buf = w.buf[:0]
	w.control(unix.NFNL_MSG_BATCH_BEGIN)
}

func (w *tableWriter) end() {
	// The answer to the last message comes behind all errors; a batch as such is not answered.
	w.acknowledge()
	w.control(unix.NFNL_MSG_BATCH_END)
}

// start begins a message about our table. The attribute that holds the table's name has the same number in every kind of
// message: NFTA_TABLE_NAME, NFTA_SET_TABLE, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_ELEM_LIST_TABLE.
func (w *tableWriter) start(msgType, flags uint16) {
	w.message(msgType, unix.NLM_F_REQUEST|flags, w.nf())
	w.string(unix.NFTA_TABLE_NAME, ruleset.TableName)
}

func (w *tableWriter) addTable() {
	w.start(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
	w.uint32(unix.NFTA_TABLE_FLAGS, 0)
	w.finish()
}

func (w *tableWriter) deleteTable() {
	w.start(unix.NFT_MSG_DELTABLE, 0)
	w.finish()
}

func (w *tableWriter) addSet(id ruleset.SetID) {
	spec := w.specs[id]
	w.start(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE)
	w.string(unix.NFTA_SET_NAME, spec.Name)
	w.uint32(unix.NFTA_SET_ID, uint32(id)+1)
	shape := shapeOf(spec, w.family)
	w.uint32(unix.NFTA_SET_FLAGS, shape.flags)
	w.uint32(unix.NFTA_SET_KEY_TYPE, shape.keyType)
	w.uint32(unix.NFTA_SET_KEY_LEN, shape.keyLen)
	if spec.Value != nil {
		w.uint32(unix.NFTA_SET_DATA_TYPE, shape.dataType)
		w.uint32(unix.NFTA_SET_DATA_LEN, shape.dataLen)
	}
	switch {
	case spec.Dynamic:
		desc := w.nest(unix.NFTA_SET_DESC)
		w.uint32(unix.NFTA_SET_DESC_SIZE, spec.Size)
		w.close(desc)
	case spec.Interval:
		// The lengths of the fields are part of the set's type.
		desc := w.nest(unix.NFTA_SET_DESC)
		concat := w.nest(nftaSetDescConcat)
		for _, t := range spec.Key {
			field := w.nest(unix.NFTA_LIST_ELEM)
			w.uint32(nftaSetFieldLength, fieldLength(t, w.family))
			w.close(field)
		}
		w.close(concat)
		w.close(desc)
	}
	w.bytes(unix.NFTA_SET_USERDATA, setUserdata(spec, w.family))
	w.finish()
}

func (w *tableWriter) addChain(c ruleset.Chain) {
	w.start(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE)
	w.string(unix.NFTA_CHAIN_NAME, c.Name)
	if c.Hook != nil {
		hook := w.nest(unix.NFTA_CHAIN_HOOK)
		w.uint32(unix.NFTA_HOOK_HOOKNUM, hookNumber(c.Hook.Hook))
		w.uint32(unix.NFTA_HOOK_PRIORITY, uint32(c.Hook.Priority))
		w.close(hook)
		w.uint32(unix.NFTA_CHAIN_POLICY, nfAccept)
		w.string(unix.NFTA_CHAIN_TYPE, c.Hook.Type)
	}
	w.finish()
}

// setRules replaces the rules of a chain.
func (w *tableWriter) setRules(c ruleset.Chain) error {
	w.flushChain(c.Name)
	for _, r := range c.Rules {
		w.start(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
		w.string(unix.NFTA_RULE_CHAIN, c.Name)
		exprs := w.nest(unix.NFTA_RULE_EXPRESSIONS)
		for _, x := range w.rule(r) {
			b, err := expr.Marshal(w.nf(), x)
			if err != nil {
				return fmt.Errorf("encode a rule of chain %s: %w", c.Name, err)
			}
			w.bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, b)
		}
		w.close(exprs)
		w.finish()
	}
	return nil
}

func (w *tableWriter) flushChain(name string) {
	w.start(unix.NFT_MSG_DELRULE, 0)
	w.string(unix.NFTA_RULE_CHAIN, name)
	w.finish()
}

func (w *tableWriter) deleteChain(name string) {
	w.start(unix.NFT_MSG_DELCHAIN, 0)
	w.string(unix.NFTA_CHAIN_NAME, name)
	w.finish()
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
		w.string(unix.NFTA_SET_ELEM_LIST_SET, spec.Name)
		list := w.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		for len(elements) > 0 && elements[0].Set == id && len(w.buf)-list < maxElementBytes {
			w.element(spec, elements[0])
			elements = elements[1:]
		}
		w.close(list)
		w.finish()
	}
}

func (w *tableWriter) element(spec *ruleset.Spec, e ruleset.Element) {
	item := w.nest(unix.NFTA_LIST_ELEM)
	w.data(unix.NFTA_SET_ELEM_KEY, e.Key)
	if e.End != "" {
		w.data(nftaSetElemKeyEnd, e.End)
	}
	switch {
	case spec.Value == nil:
	case spec.Value[0] == ruleset.VerdictType:
		v := verdict(ruleset.Verdict(e.Value))
		data := w.nest(unix.NFTA_SET_ELEM_DATA)
		nest := w.nest(unix.NFTA_DATA_VERDICT)
		w.uint32(unix.NFTA_VERDICT_CODE, uint32(v.Kind))
		if v.Chain != "" {
			w.string(unix.NFTA_VERDICT_CHAIN, v.Chain)
		}
		w.close(nest)
		w.close(data)
	default:
		w.data(unix.NFTA_SET_ELEM_DATA, e.Value)
	}
	w.close(item)
}

// request writes a message that reads.
func (w *tableWriter) request(msgType, flags uint16) {
	w.buf = w.buf[:0]
	w.start(msgType, flags)
	w.finish()
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
