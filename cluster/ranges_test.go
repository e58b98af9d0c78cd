package cluster

import (
	"net/netip"
	"strings"
	"testing"

	"go4.org/netipx"
)

func TestParseRange(t *testing.T) {
	for _, c := range []struct {
		in   string
		want string // the range, or a part of the error
	}{
		{"192.0.2.0/28", "192.0.2.0-192.0.2.15"},
		{"192.0.2.7/32", "192.0.2.7-192.0.2.7"},
		{"192.0.2.10-192.0.2.20", "192.0.2.10-192.0.2.20"},
		{"192.0.2.10-192.0.2.10", "192.0.2.10-192.0.2.10"},
		{"2001:db8::/126", "2001:db8::-2001:db8::3"},
		{"2001:db8::1-2001:db8::9", "2001:db8::1-2001:db8::9"},

		{"192.0.2.1", "write 192.0.2.1/32"},
		{"2001:db8::1", "write 2001:db8::1/128"},
		{"192.0.2.1/28", "write 192.0.2.0/28 for the whole prefix or 192.0.2.1/32"},
		{"192.0.2.20-192.0.2.10", "reversed: write 192.0.2.10-192.0.2.20"},
		{"192.0.2.1-2001:db8::1", "mixes IPv4 and IPv6"},
		{"192.0.2.0/33", "neither a prefix"},
		{"", "neither a prefix"},
		{"web", "neither a prefix"},
		{"192.0.2.1-", "not a range"},
		{"-", "not a range"},
		{"192.0.2.1-192.0.2.2-192.0.2.3", "not a range"},
		{"fe80::1%eth0-fe80::2%eth0", "not a range"},
		{"0.0.0.0/0", "holds addresses of 0.0.0.0/8, this network, which no Service can have: leave them out"},
		{"126.255.255.0-127.0.0.0", "127.0.0.0/8, loopback"},
		{"126.255.255.0-126.255.255.255", "126.255.255.0-126.255.255.255"},
		{"224.0.0.7/32", "224.0.0.0/4, multicast"},
		{"240.0.0.0/4", "255.255.255.255/32, broadcast"},
		{"240.0.0.0/5", "240.0.0.0-247.255.255.255"},
		{"::/0", "::/128, unspecified"},
		{"::1/128", "::1/128, loopback"},
		{"fe80::/64", "fe80::/10, link-local"},
		{"ff02::/16", "ff00::/8, multicast"},
		{"::2-::1:0:0:0", "::ffff:0.0.0.0/96, IPv4 written as IPv6"},
		{"::ffff:192.0.2.0/120", "write it as IPv4"},
		{"::ffff:192.0.2.1-::ffff:192.0.2.2", "not a range"},
	} {
		r, err := ParseRange(c.in)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q: error %q lacks %q", c.in, err, c.want)
			}
			continue
		}
		if r.String() != c.want {
			t.Errorf("%q: got %s, want %s", c.in, r, c.want)
		}
	}
}

func TestParseRanges(t *testing.T) {
	for _, c := range []struct {
		in       []string
		problems []string
	}{
		{[]string{"192.0.2.0/28", "2001:db8::/64", "192.0.2.16-192.0.2.31"}, nil},
		{nil, []string{"no addresses"}},
		{[]string{"192.0.2.0/28", "192.0.2.15-192.0.2.20"}, []string{`"192.0.2.15-192.0.2.20" overlaps "192.0.2.0/28"`}},
		{[]string{"192.0.2.0/28", "192.0.2.0/28"}, []string{"overlaps"}},
		{[]string{"web", "192.0.2.0/28", "192.0.2.9"}, []string{"neither a prefix", "single address"}},
	} {
		ranges, problems := ParseRanges(c.in)
		if len(problems) != len(c.problems) {
			t.Errorf("%q: problems %v, want %d", c.in, problems, len(c.problems))
			continue
		}
		for i, p := range problems {
			if !strings.Contains(p.Error(), c.problems[i]) {
				t.Errorf("%q: problem %q lacks %q", c.in, p, c.problems[i])
			}
		}
		if len(problems) == 0 && len(ranges) != len(c.in) {
			t.Errorf("%q: %d ranges", c.in, len(ranges))
		}
	}
}

// FuzzParseRange: what is accepted is a valid range of one family whose text is accepted again and means the same, and
// an error always quotes what it is about.
func FuzzParseRange(f *testing.F) {
	for _, s := range []string{
		"192.0.2.0/28", "192.0.2.10-192.0.2.20", "2001:db8::/126", "2001:db8::1-2001:db8::9", "192.0.2.1", "::ffff:192.0.2.0/120",
		"192.0.2.20-192.0.2.10", "fe80::1%eth0-fe80::2", "0.0.0.0/0", "::/0", "-", "/", "1-2", "255.255.255.255/32", "01.2.3.4/32",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRange(s)
		if err != nil {
			if len(err.Error()) <= len(s) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if !r.IsValid() || FamilyOf(r.From()) != FamilyOf(r.To()) || r.From().Is4In6() || r.From().Zone() != "" {
			t.Fatalf("%q is taken for %v", s, r)
		}
		again, err := ParseRange(r.From().String() + "-" + r.To().String())
		if err != nil || again != r {
			t.Errorf("%q means %s, and that %s, %v", s, r, again, err)
		}
		if p, ok := r.Prefix(); ok {
			if again, err := ParseRange(p.String()); err != nil || again != r {
				t.Errorf("%q means %s, and that %s, %v", s, p, again, err)
			}
		}
	})
}

func TestPoolContains(t *testing.T) {
	p := &Pool{Ranges: []netipx.IPRange{netipx.MustParseIPRange("192.0.2.10-192.0.2.20"), netipx.MustParseIPRange("2001:db8::1-2001:db8::9")}}
	for a, want := range map[string]bool{"192.0.2.9": false, "192.0.2.10": true, "192.0.2.20": true, "192.0.2.21": false, "2001:db8::5": true, "2001:db8::a": false} {
		if got := p.Contains(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
}

func TestVIPName(t *testing.T) {
	for a, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "2001:db8::1": "2001-0db8-0000-0000-0000-0000-0000-0001", "::1": "0000-0000-0000-0000-0000-0000-0000-0001",
	} {
		if got := VIPName(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: got %s, want %s", a, got, want)
		}
	}
}
