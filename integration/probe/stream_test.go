package probe

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A server that echoes, but not for a while: the gap is as long as that.
func TestStream(t *testing.T) {
	ns := newNamespace(t)
	server, err := ns.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		buf := make([]byte, 100)
		for i := 0; ; i++ {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			if i >= 20 && i < 40 {
				continue
			}
			_, _ = server.WriteTo([]byte(strings.TrimPrefix(string(buf[:n]), "echo ")), from)
		}
	}()
	start := time.Now()
	f, err := Stream{From: ns, To: netip.MustParseAddrPort(server.LocalAddr().String()), Every: 5 * time.Millisecond, Say: "echo "}.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for f.Since(start).Lost() < 20 || f.Silent() > 100*time.Millisecond {
		time.Sleep(10 * time.Millisecond)
		if time.Since(start) > 10*time.Second {
			t.Fatal("nothing was lost, or nothing answered again")
		}
	}
	r := f.End()
	if g := r.Longest(); g.Lost < 20 || g.Length() < 100*time.Millisecond {
		t.Errorf("the longest gap is %+v", g)
	}
}
