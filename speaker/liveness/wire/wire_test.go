package wire

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/seamark-io/seamark/speaker/liveness"
)

var secretA, secretB = bytes.Repeat([]byte("a"), 32), bytes.Repeat([]byte("b"), 16)

func keys(t testing.TB, segment string, send []byte, accept ...[]byte) *Keys {
	t.Helper()
	k, err := NewKeys(segment, send, accept...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sealer(t testing.TB, k *Keys, node liveness.NodeID) *Sealer {
	t.Helper()
	s := &Sealer{}
	if err := s.SetKeys(k, node); err != nil {
		t.Fatal(err)
	}
	return s
}

func seal(t testing.TB, s *Sealer, h *liveness.Heartbeat) []byte {
	t.Helper()
	frame, err := s.Seal(nil, h, false)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// random returns a heartbeat as a Member could send it, with the largest numbers that occur.
func random(r *rand.Rand, records int) *liveness.Heartbeat {
	id := func() uint64 { return max(r.Uint64(), 1) }
	h := &liveness.Heartbeat{
		From: liveness.NodeID(id()), Incarnation: id(), Seq: 1 + r.Uint32N(1<<31), Detect: time.Duration(r.IntN(10_000_000)) * time.Microsecond,
		Quiet: r.IntN(2) == 0, Bye: r.IntN(2) == 0, Draining: r.IntN(2) == 0, VerdictsVersion: r.Uint32(),
		Heard:    liveness.Heard{From: 1, To: ^liveness.NodeID(0)},
		Claims:   liveness.Claims{From: r.Uint32N(100)},
		Verdicts: liveness.Verdicts{From: r.Uint32N(100)},
	}
	for range r.IntN(4) {
		e := liveness.Electorate{Hash: id()}
		for range r.IntN(3) * 7 {
			e.Acceptors = append(e.Acceptors, liveness.NodeID(id()))
		}
		h.Electorates = append(h.Electorates, e)
	}
	for range r.IntN(records + 1) {
		h.Heard.Acks = append(h.Heard.Acks, liveness.Ack{
			Node: liveness.NodeID(id()), Incarnation: r.Uint32(), Seq: r.Uint32(), Claims: r.Uint32(), Verdicts: r.Uint32(),
			Pending: r.IntN(2) == 0, Mutual: r.IntN(2) == 0,
		})
	}
	slices.SortFunc(h.Heard.Acks, func(a, b liveness.Ack) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
	version := h.Claims.From
	for range r.IntN(records + 1) {
		version += 1 + r.Uint32N(1<<20)
		h.Claims.Records = append(h.Claims.Records, liveness.Claim{Version: version, Address: liveness.AddressID(id()), Intent: liveness.Intent(r.IntN(3))})
	}
	h.Claims.To = version
	version = h.Verdicts.From
	for range r.IntN(records + 1) {
		version += 1 + r.Uint32N(1<<20)
		h.Verdicts.Records = append(h.Verdicts.Records, liveness.Verdict{
			Version: version, Claimant: liveness.NodeID(id()), Address: liveness.AddressID(id()),
			Judgement: liveness.Judgement(r.IntN(3)), Other: liveness.NodeID(r.Uint64()),
		})
	}
	h.Verdicts.To = version
	return h
}

// equal compares as far as nil and empty lists are the same.
func equal(a, b *liveness.Heartbeat) bool {
	norm := func(h liveness.Heartbeat) liveness.Heartbeat {
		if len(h.Electorates) == 0 {
			h.Electorates = nil
		}
		if len(h.Heard.Acks) == 0 {
			h.Heard.Acks = nil
		}
		if len(h.Claims.Records) == 0 {
			h.Claims.Records = nil
		}
		if len(h.Verdicts.Records) == 0 {
			h.Verdicts.Records = nil
		}
		return h
	}
	return reflect.DeepEqual(norm(*a), norm(*b))
}

func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	k := keys(t, "10.0.0.0/24", secretA)
	o := &Opener{}
	o.SetKeys(k)
	var got liveness.Heartbeat
	for range 2000 {
		h := random(r, 20)
		frame := seal(t, sealer(t, k, h.From), h)
		if res := o.Open(frame, &got); res != Opened {
			t.Fatalf("%v: %+v", res, h)
		}
		if !equal(h, &got) {
			t.Fatalf("sent %+v\ngot  %+v", h, &got)
		}
		if len(frame) < 46 {
			t.Errorf("a frame of %d bytes would be padded by Ethernet", len(frame))
		}
	}
}

// Whatever is changed on the way, the frame is not opened.
func TestTampering(t *testing.T) {
	k := keys(t, "10.0.0.0/24", secretA)
	h := random(rand.New(rand.NewPCG(3, 4)), 5)
	frame := seal(t, sealer(t, k, h.From), h)
	o := &Opener{}
	o.SetKeys(k)
	var got liveness.Heartbeat
	for i := range frame {
		for _, bit := range []byte{1, 0x80} {
			changed := bytes.Clone(frame)
			changed[i] ^= bit
			if res := o.Open(changed, &got); res == Opened || res == Malformed {
				t.Fatalf("byte %d changed: %v", i, res)
			}
		}
	}
	for n := range frame {
		if res := o.Open(frame[:n], &got); res == Opened || res == Malformed {
			t.Fatalf("cut to %d bytes: %v", n, res)
		}
	}
	if len(o.senders) != 0 {
		t.Errorf("%d ciphers are kept for frames that were not opened", len(o.senders))
	}
}

// A frame opens for those who have its key, on its segment, and for nobody else.
func TestKeys(t *testing.T) {
	h := random(rand.New(rand.NewPCG(5, 6)), 3)
	frame := func(segment string, secret []byte) []byte {
		return seal(t, sealer(t, keys(t, segment, secret), h.From), h)
	}
	var got liveness.Heartbeat
	for _, tt := range []struct {
		name  string
		frame []byte
		keys  *Keys
		want  Result
	}{
		{"same key", frame("s", secretA), keys(t, "s", secretA), Opened},
		{"rotation, the new one arrives", frame("s", secretB), keys(t, "s", secretA, secretB), Opened},
		{"rotation, the old one arrives", frame("s", secretA), keys(t, "s", secretB, secretA), Opened},
		{"other key", frame("s", secretB), keys(t, "s", secretA), UnknownKey},
		{"other segment", frame("t", secretA), keys(t, "s", secretA), Foreign},
		{"no keys", frame("s", secretA), nil, UnknownKey},
	} {
		o := &Opener{}
		o.SetKeys(tt.keys)
		if res := o.Open(tt.frame, &got); res != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, res, tt.want)
		}
	}
	if _, err := NewKeys("s", []byte("short")); err == nil {
		t.Error("a short secret was taken")
	}
	if _, err := NewKeys("s", nil); err == nil {
		t.Error("no secret was taken")
	}
	// Another sender's name in the header is not believed.
	f := frame("s", secretA)
	f[8] ^= 1
	o := &Opener{}
	o.SetKeys(keys(t, "s", secretA))
	if res := o.Open(f, &got); res != Forged {
		t.Errorf("another sender: %v", res)
	}
}

// A nonce is never used twice, even if the caller is mistaken.
func TestNonce(t *testing.T) {
	h := random(rand.New(rand.NewPCG(7, 8)), 0)
	s := sealer(t, keys(t, "s", secretA), h.From)
	seal(t, s, h)
	if _, err := s.Seal(nil, h, true); err == nil {
		t.Error("the same number was sealed twice")
	}
	h.Seq--
	if _, err := s.Seal(nil, h, true); err == nil {
		t.Error("a lower number was sealed")
	}
}

// The encoding is part of the protocol between versions, and must not change within one.
func TestEncodingIsStable(t *testing.T) {
	h := &liveness.Heartbeat{
		From: 1, Incarnation: 2, Seq: 3, Detect: 150 * time.Millisecond, Quiet: true, VerdictsVersion: 300,
		Electorates: []liveness.Electorate{{Hash: 7, Acceptors: []liveness.NodeID{1, 9}}, {Hash: 8}},
		Heard:       liveness.Heard{From: 1, To: 10, Acks: []liveness.Ack{{Node: 9, Incarnation: 4, Seq: 5, Claims: 6, Verdicts: 200, Mutual: true}}},
		Claims:      liveness.Claims{From: 1, To: 9, Records: []liveness.Claim{{Version: 3, Address: 17, Intent: liveness.Claiming}}},
		Verdicts:    liveness.Verdicts{To: 4, Records: []liveness.Verdict{{Version: 4, Claimant: 9, Address: 17, Judgement: liveness.Refused, Other: 1}}},
	}
	want := "\x01\x00\x02\x49\xf0\xac\x02\x02" +
		"\x00\x00\x00\x00\x00\x00\x00\x07\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x09" +
		"\x00\x00\x00\x00\x00\x00\x00\x08\x00" +
		"\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x0a\x00\x01" +
		"\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x04\x00\x00\x00\x05\x06\xc8\x01\x02" +
		"\x01\x09\x00\x01\x00\x00\x00\x00\x00\x00\x00\x11\x02\x02" +
		"\x00\x04\x00\x01\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x11\x04\x01\x00\x00\x00\x00\x00\x00\x00\x01"
	if got := string(appendHeartbeat(nil, h)); got != want {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	frame := seal(t, sealer(t, keys(t, "s", secretA), 1), h)
	if got, want := string(frame[:headerSize]), "\x53\x6d\x01\x3d\xb1\x0e\x6c\x0b\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x03"; got != want {
		t.Errorf("header\ngot  %x\nwant %x", got, want)
	}
}

// That a frame is prompt stands where filters find it, and is as protected as all else.
func TestPrompt(t *testing.T) {
	k, h := keys(t, "s", secretA), heartbeat(1)
	frame, err := sealer(t, k, h.From).Seal(nil, h, true)
	if err != nil {
		t.Fatal(err)
	}
	var o Opener
	o.SetKeys(k)
	var got liveness.Heartbeat
	if r := o.Open(frame, &got); r != Opened || frame[PromptOffset]&PromptBit == 0 {
		t.Errorf("%v, %x", r, frame[:headerSize])
	}
	frame[PromptOffset] ^= PromptBit
	if r := o.Open(frame, &got); r != Forged {
		t.Errorf("changed on the way: %v", r)
	}
}

// A Member's heartbeats fit into the budget it was given.
func TestBudget(t *testing.T) {
	const budget = 1100
	m, names := member(t, 200, budget)
	sizes := 0
	for i, now := 0, liveness.Time(0); i < 40; i++ {
		now = now.Add(20 * time.Millisecond)
		for _, o := range m.Tick(now) {
			b := appendHeartbeat(nil, &o.Heartbeat)
			sizes++
			if len(b) > budget {
				t.Fatalf("%d bytes: %d acks, %d claims", len(b), len(o.Heard.Acks), len(o.Claims.Records))
			}
		}
	}
	if sizes < 100 {
		t.Errorf("only %d heartbeats were seen, of %d members", sizes, len(names))
	}
}

func FuzzOpen(f *testing.F) {
	k := keys(f, "s", secretA)
	r := rand.New(rand.NewPCG(9, 10))
	for range 5 {
		h := random(r, 3)
		f.Add(seal(f, sealer(f, k, h.From), h))
	}
	f.Add([]byte{})
	f.Add([]byte("Sm\x01\x00"))
	o := &Opener{}
	o.SetKeys(k)
	f.Fuzz(func(t *testing.T, frame []byte) {
		var h liveness.Heartbeat
		if res := o.Open(frame, &h); int(res) >= Results {
			t.Error(res)
		}
	})
}

// FuzzDecode has a sender with the key and no sense: what is read must be what would be written, and a Member must survive
// it.
func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 8 {
		f.Add(appendHeartbeat(nil, random(r, 4)))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h := liveness.Heartbeat{From: 99, Incarnation: 1, Seq: 1}
		if decodeHeartbeat(b, &h) != nil {
			return
		}
		again := liveness.Heartbeat{From: 99, Incarnation: 1, Seq: 1}
		if err := decodeHeartbeat(appendHeartbeat(nil, &h), &again); err != nil || !equal(&h, &again) {
			t.Fatalf("%v\nread  %+v\nagain %+v", err, h, again)
		}
		m, _ := member(t, 3, 1400)
		for i := range 3 {
			now := liveness.Time(time.Duration(i) * 60 * time.Millisecond)
			m.Tick(now)
			h.Seq++
			m.Receive(now, &h)
			m.View()
		}
	})
}

// benchmarked is how many nodes a frame of an idle node names: with 3 and 32 members, and with 256 that of a node that is no acceptor and
// hears the seven that are, and one of the seven frames of an acceptor.
var benchmarked = []int{2, 31, 7, 37}

func BenchmarkSeal(b *testing.B) {
	for _, acks := range benchmarked {
		h := heartbeat(acks)
		s := sealer(b, keys(b, "s", secretA), h.From)
		frame := make([]byte, 0, 2048)
		b.Run(name(acks), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.Seq++
				frame, _ = s.Seal(frame[:0], h, false)
			}
			b.ReportMetric(float64(len(frame)), "bytes")
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, acks := range benchmarked {
		h := heartbeat(acks)
		k := keys(b, "s", secretA)
		frame := seal(b, sealer(b, k, h.From), h)
		o := &Opener{}
		o.SetKeys(k)
		b.Run(name(acks), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				o.Open(frame, h)
			}
		})
	}
}
