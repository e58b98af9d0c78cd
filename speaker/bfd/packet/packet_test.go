package packet

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	gobgp "github.com/osrg/gobgp/v4/pkg/packet/bfd"
)

// up is a packet as in RFC 5880 section 4.1, written by hand.
const up = "20 c0 03 18 00000001 00000002 0000c350 0000ea60 00000000"

func raw(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParse(t *testing.T) {
	want := Control{State: Up, Multiplier: 3, MyDiscriminator: 1, YourDiscriminator: 2, DesiredMinTx: 50 * time.Millisecond, RequiredMinRx: 60 * time.Millisecond}
	for _, tt := range []struct {
		name, bytes string
		change      func(*Control)
	}{
		{"as it comes", up, func(*Control) {}},
		{"with bytes behind it", up + " ffff", func(*Control) {}},
		{"diagnostic", "23 c0 03 18" + up[11:], func(c *Control) { c.Diag = NeighborDown }},
		{"highest diagnostic", "3f c0 03 18" + up[11:], func(c *Control) { c.Diag = 31 }},
		{"poll", "20 e0 03 18" + up[11:], func(c *Control) { c.Poll = true }},
		{"final", "20 d0 03 18" + up[11:], func(c *Control) { c.Final = true }},
		{"control plane independent", "20 c8 03 18" + up[11:], func(c *Control) { c.Independent = true }},
		{"demand", "20 c2 03 18" + up[11:], func(c *Control) { c.Demand = true }},
		{"init", "20 80 03 18" + up[11:], func(c *Control) { c.State = Init }},
		{"down, first contact", "20 40 03 18 00000001 00000000" + up[29:], func(c *Control) { c.State, c.YourDiscriminator = Down, 0 }},
		{"admin down, first contact", "27 00 ff 18 00000001 00000000" + up[29:], func(c *Control) {
			c.State, c.YourDiscriminator, c.Diag, c.Multiplier = AdminDown, 0, AdminDownDiag, 255
		}},
		{"longest intervals", up[:30] + "ffffffff ffffffff ffffffff", func(c *Control) {
			c.DesiredMinTx, c.RequiredMinRx, c.RequiredMinEchoRx = MaxInterval, MaxInterval, MaxInterval
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := want
			tt.change(&want)
			b := raw(t, tt.bytes)
			got, verdict := Parse(b)
			if verdict != Accepted || got != want {
				t.Fatalf("got %+v, %s\nwant %+v", got, verdict, want)
			}
			if out := Append(nil, &got); !bytes.Equal(out, b[:Len]) {
				t.Errorf("wrote % x, read % x", out, b)
			}
		})
	}
}

// Every check of RFC 5880 section 6.8.6, one byte away from a good packet.
func TestDiscarded(t *testing.T) {
	for _, tt := range []struct {
		name, bytes string
		want        Verdict
	}{
		{"nothing", "", Truncated},
		{"no length field", "20 c0 03", Truncated},
		{"header only", "20 c0 03 18", Truncated},
		{"one byte short", up[:len(up)-2], Truncated},
		{"length beyond the datagram", "20 c0 03 19" + up[11:], Truncated},
		{"version 0", "00 c0 03 18" + up[11:], BadVersion},
		{"version 2", "40 c0 03 18" + up[11:], BadVersion},
		{"version before length", "00 c0 03 00" + up[11:], BadVersion},
		{"length 23", "20 c0 03 17" + up[11:], BadLength},
		{"length 0", "20 c0 03 00" + up[11:], BadLength},
		{"length 25 with the A bit", "20 c4 03 19" + up[11:] + "0000", BadLength},
		{"no multiplier", "20 c0 00 18" + up[11:], ZeroMultiplier},
		{"multiplier before M bit", "20 c1 00 18" + up[11:], ZeroMultiplier},
		{"M bit", "20 c1 03 18" + up[11:], Multipoint},
		{"my discriminator zero", "20 c0 03 18 00000000" + up[20:], ZeroDiscriminator},
		{"your discriminator zero in Up", "20 c0 03 18 00000001 00000000" + up[29:], NoDiscriminator},
		{"your discriminator zero in Init", "20 80 03 18 00000001 00000000" + up[29:], NoDiscriminator},
		{"authenticated", "20 c4 03 1a" + up[11:] + "0000", Authenticated},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, got := Parse(raw(t, tt.bytes)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestWords(t *testing.T) {
	seen := map[string]bool{}
	for v := range Verdict(Verdicts) {
		if w := v.String(); w == "" || seen[w] {
			t.Errorf("verdict %d is %q", v, w)
		} else {
			seen[w] = true
		}
	}
	for d, want := range map[Diag]string{NoDiag: "no diagnostic", Expired: "control detection time expired", NeighborDown: "neighbor signaled session down", AdminDownDiag: "administratively down", 31: "diagnostic 31"} {
		if d.String() != want {
			t.Errorf("diagnostic %d is %q", d, d)
		}
	}
	var states []string
	for s := range State(4) {
		states = append(states, s.String())
	}
	if want := []string{"AdminDown", "Down", "Init", "Up"}; !slices.Equal(states, want) {
		t.Errorf("states are %q", states)
	}
}

func TestNoGarbage(t *testing.T) {
	b, buf := raw(t, up), make([]byte, 0, Len)
	if n := testing.AllocsPerRun(100, func() {
		c, _ := Parse(b)
		buf = Append(buf[:0], &c)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What is accepted is written again as it was read, and gobgp's codec reads the same from it. gobgp's accepts more than
// RFC 5880 allows and is no judge of that.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "20", up, up[:len(up)-2], up + "00",
		"27 00 03 18 00000001 00000000" + up[29:], // AdminDown
		"21 40 03 18 00000001 00000000" + up[29:], // Down, expired
		"20 f0 03 18" + up[11:],                   // Poll and Final
		"20 c4 03 1a" + up[11:] + "0000",          // A bit
		"20 c4 03 30" + up[11:] + "0418010000000001000102030405060708090a0b0c0d0e0f10111213", // keyed SHA1
		"20 c0 03 ff" + up[11:], "20 c1 03 18" + up[11:], "e0 ff ff 18" + up[11:],
		"20 c0 ff 18 ffffffff ffffffff ffffffff ffffffff ffffffff",
	} {
		f.Add(raw(f, seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, verdict := Parse(b)
		if int(verdict) >= Verdicts {
			t.Fatalf("verdict %d", verdict)
		}
		if verdict != Accepted {
			return
		}
		want := slices.Clone(b[:Len])
		want[3] = Len // a length above Len would leave room behind the packet that says nothing
		if out := Append(nil, &got); !bytes.Equal(out, want) {
			t.Fatalf("wrote % x\nread  % x", out, want)
		}
		if got.Multiplier == 0 || got.MyDiscriminator == 0 || got.YourDiscriminator == 0 && got.State > Down {
			t.Fatalf("accepted %+v", got)
		}
		var theirs gobgp.BFDHeader
		if err := theirs.UnmarshalBinary(want); err != nil {
			return
		}
		if theirs.MyDiscriminator != got.MyDiscriminator || theirs.YourDiscriminator != got.YourDiscriminator ||
			uint8(theirs.State) != uint8(got.State) || theirs.DetectTimeMultiplier != got.Multiplier ||
			theirs.Poll != got.Poll || theirs.Final != got.Final ||
			time.Duration(theirs.DesiredMinTxInterval)*time.Microsecond != got.DesiredMinTx ||
			time.Duration(theirs.RequiredMinRxInterval)*time.Microsecond != got.RequiredMinRx {
			t.Fatalf("got %+v, gobgp %+v", got, theirs)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	p := raw(b, up)
	b.ReportAllocs()
	for b.Loop() {
		if _, v := Parse(p); v != Accepted {
			b.Fatal(v)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	c, _ := Parse(raw(b, up))
	buf := make([]byte, 0, Len)
	b.ReportAllocs()
	for b.Loop() {
		buf = Append(buf[:0], &c)
	}
}
