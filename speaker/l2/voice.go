package l2

import (
	"net/netip"
	"slices"
	"time"

	"github.com/seamark-io/seamark/speaker/l2/packet"
)

// voice is the wire of a listener's announcer: it writes notices as frames.
type voice struct {
	*listener
	out *sender
	// stations are the gateways that were found among those, and when.
	stations []gateway
	among    *[]netip.Addr
	found    time.Time
}

// stationAge is for how long the gateways' Ethernet addresses are used before they are looked up again: they move as well, and
// a lookup has the kernel list all neighbours.
const stationAge = time.Second

// prepare implements wire.
func (v *voice) prepare(n notice) int {
	switch {
	case n == toGateways:
		if among := v.gateways.Load(); len(v.stations) == 0 || among != v.among && !slices.Equal(*among, *v.among) || time.Since(v.found) > stationAge {
			v.stations, v.among, v.found = v.gatewayStations(), among, time.Now()
		}
		return len(v.stations)
	case n == asReply && v.proto == ndp:
		return 0
	default:
		return 1
	}
}

// send implements wire.
func (v *voice) send(n notice, addrs []netip.Addr) int {
	frames := 0
	for _, a := range addrs {
		if v.out.room() < v.most() {
			frames += v.flush()
		}
		v.put(n, a) // the sender asks whether it may
	}
	return frames + v.flush()
}

// most is the highest number of frames for one address.
func (v *voice) most() int { return max(1, len(v.stations)) }

func (v *voice) flush() int {
	f := v.out.flush()
	v.stats.gratuitous.Add(uint64(f.sent))
	v.stats.sendErrors.Add(uint64(f.failed))
	return f.sent + f.failed
}

func (v *voice) put(n notice, a netip.Addr) {
	out, mac := v.out, v.link.MAC
	switch {
	case n == toGateways && v.proto == arp:
		for _, g := range v.stations {
			out.add(packet.AppendGratuitousRequestTo(out.empty(), mac, a, g.mac), a)
		}
	case n == toGateways:
		for _, g := range v.stations {
			out.add(packet.AppendUnsolicitedTo(out.empty(), mac, a, g.mac, g.addr), a)
		}
	case n == probe && v.proto == arp:
		out.add(packet.AppendProbe(out.empty(), mac, a), a)
	case n == probe:
		out.add(packet.AppendDetection(out.empty(), mac, a), a)
	case v.proto == ndp:
		out.add(packet.AppendUnsolicited(out.empty(), mac, a), a)
	case n == asReply:
		out.add(packet.AppendGratuitousReply(out.empty(), mac, a), a)
	default:
		out.add(packet.AppendGratuitousRequest(out.empty(), mac, a), a)
	}
}
