package l2

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"

	"github.com/seamark-io/seamark/speaker/l2/respond"
)

// The socket's filter is a program of classic BPF that knows the addresses: it keeps the agent asleep while the LAN talks
// about others. It looks at the last 32 bits of an address. They are cut into a block number, a bit in the block, and a
// remainder that is not looked at, so that the program is a binary search over the blocks in use and one look into a word of
// 32 bits. With as few blocks as fit, the remainder is empty, and the filter exact, for any 128 aligned groups of 32
// addresses (4,096 in a row); scattered addresses share bits with their neighbours, and the map behind the filter decides.
//
// The program stays far below the kernel's 4,096 instructions, because the memory for it, translated, must fit
// net.core.optmem_max, which was 20 KiB until Linux 6.9.
const (
	// targetBlocks is how many blocks the address that is asked for is looked up in.
	targetBlocks = 128
	// senderBlocks, fewer, is for the sender's address: those of strangers are rarely near ours.
	senderBlocks = 32
)

// blocks are addresses as the filter sees them: bits of words, by block number.
type blocks struct {
	// shift is how many of the last bits are not looked at.
	shift uint32
	words map[uint32]uint32
}

// blocksOf returns the finest blocks of which there are at most n, at least 1.
func blocksOf(owned respond.Owned, n int) blocks {
	b := blocks{}
	for ; ; b.shift++ {
		b.words = map[uint32]uint32{}
		for a := range owned {
			x := last32(a) >> b.shift
			b.words[x>>5] |= 1 << (x & 31)
			if len(b.words) > n {
				break
			}
		}
		if len(b.words) <= n {
			return b
		}
	}
}

func last32(a netip.Addr) uint32 {
	x := a.As16()
	return uint32(x[12])<<24 | uint32(x[13])<<16 | uint32(x[14])<<8 | uint32(x[15])
}

// lookup returns a program that takes the frame if the 32 bits at the offset are in the blocks, and goes on behind its end if
// they are not.
func (b blocks) lookup(offset uint32) []bpf.Instruction {
	prog := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offset, Size: 4},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: b.shift},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 31},
		bpf.TAX{},
		bpf.LoadAbsolute{Off: offset, Size: 4},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: b.shift + 5},
	}
	tail := []bpf.Instruction{
		bpf.ALUOpX{Op: bpf.ALUOpShiftRight},
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: 1, SkipTrue: 1},
		bpf.RetConstant{Val: 0xffff},
	}
	keys := slices.Sorted(maps.Keys(b.words))
	// search goes on at its end when the block is not there; toTail is how far the tail is behind that.
	var search func(keys []uint32, toTail, toEnd uint32) []bpf.Instruction
	search = func(keys []uint32, toTail, toEnd uint32) []bpf.Instruction {
		if len(keys) == 1 {
			return []bpf.Instruction{
				bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: keys[0], SkipTrue: 2},
				bpf.LoadConstant{Dst: bpf.RegA, Val: b.words[keys[0]]},
				bpf.Jump{Skip: toTail + 1},
				bpf.Jump{Skip: toEnd},
			}
		}
		half := len(keys) / 2
		right := search(keys[half:], toTail, toEnd)
		left := search(keys[:half], toTail+uint32(len(right)), toEnd+uint32(len(right)))
		// A conditional jump reaches 255 instructions, a plain one any.
		out := []bpf.Instruction{
			bpf.JumpIf{Cond: bpf.JumpLessThan, Val: keys[half], SkipTrue: 1},
			bpf.Jump{Skip: uint32(len(left))},
		}
		return append(append(out, left...), right...)
	}
	return append(append(prog, search(keys, 0, uint32(len(tail)))...), tail...)
}

// filter returns the program for a protocol. With no addresses it lets nothing through.
func filter(p protocol, owned respond.Owned) ([]bpf.RawInstruction, error) {
	raw, err := bpf.Assemble(program(p, owned))
	if err != nil {
		return nil, fmt.Errorf("assemble socket filter: %w", err)
	}
	return raw, nil
}

func program(p protocol, owned respond.Owned) []bpf.Instruction {
	drop := []bpf.Instruction{bpf.RetConstant{Val: 0}}
	switch {
	case len(owned) == 0:
		return drop
	case p == arp:
		return slices.Concat(forUs(), arpFilter(owned), drop)
	default:
		return slices.Concat(forUs(), ndpFilter(owned), drop)
	}
}

// forUs drops what is not for this link: frames with the tag of a VLAN (they belong to that VLAN's interface, and the
// kernel shows them here as well) and frames to other stations (PACKET_OTHERHOST, seen in promiscuous mode).
func forUs() []bpf.Instruction {
	const otherHost = 3
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtVLANTag},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x0fff},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: otherHost, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}
}

// arpFilter takes ARP that asks for an address of ours, or comes from one.
func arpFilter(owned respond.Owned) []bpf.Instruction {
	const sender, target = 28, 38
	return append(blocksOf(owned, targetBlocks).lookup(target), blocksOf(owned, senderBlocks).lookup(sender)...)
}

// ndpFilter takes neighbor solicitations and advertisements of addresses of ours, and solicitations from them.
func ndpFilter(owned respond.Owned) []bpf.Instruction {
	const nextHeader, icmpType, source, target = 20, 54, 34, 74 // of the addresses the last four bytes
	const icmpv6, solicitation, advertisement = 58, 135, 136
	return slices.Concat([]bpf.Instruction{
		bpf.LoadAbsolute{Off: nextHeader, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmpv6, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: icmpType, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: solicitation, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: advertisement, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}, blocksOf(owned, targetBlocks).lookup(target), blocksOf(owned, senderBlocks).lookup(source))
}
