package cluster

import "testing"

func TestParseCommunities(t *testing.T) {
	parse := map[string]func(string) (string, error){
		"community":          func(s string) (string, error) { c, err := ParseCommunity(s); return c.String(), err },
		"large community":    func(s string) (string, error) { c, err := ParseLargeCommunity(s); return c.String(), err },
		"extended community": func(s string) (string, error) { c, err := ParseExtCommunity(s); return c.String(), err },
	}
	for _, tt := range []struct {
		kind, in, want string // want is empty for what is refused
	}{
		{"community", "64512:100", "64512:100"},
		{"community", "0:0", "0:0"},
		{"community", "65535:65535", "65535:65535"},
		{"community", "graceful-shutdown", "65535:0"},
		{"community", "no-export", "65535:65281"},
		{"community", "65536:1", ""},
		{"community", "1:65536", ""},
		{"community", "1", ""},
		{"community", "", ""},
		{"community", "-1:1", ""},
		{"community", "1:2:3", ""},
		{"large community", "4200000000:1:2", "4200000000:1:2"},
		{"large community", "1:4294967295:4294967295", "1:4294967295:4294967295"},
		{"large community", "4294967295:1:1", ""}, // RFC 7300
		{"large community", "1:4294967296:1", ""},
		{"large community", "1:2", ""},
		{"large community", "1:2:3:4", ""},
		{"extended community", "rt:64512:4294967295", "rt:64512:4294967295"},
		{"extended community", "rt:4200000000:65535", "rt:4200000000:65535"},
		{"extended community", "soo:192.0.2.1:65535", "soo:192.0.2.1:65535"},
		{"extended community", "lb:64512:125000000", "lb:64512:125000000"},
		{"extended community", "rt:65536:65536", ""}, // four octets leave two
		{"extended community", "soo:192.0.2.1:65536", ""},
		{"extended community", "lb:65536:1", ""},
		{"extended community", "lb:192.0.2.1:1", ""},
		{"extended community", "rt:2001:db8::1:1", ""},
		{"extended community", "color:1:1", ""},
		{"extended community", "rt:1", ""},
	} {
		got, err := parse[tt.kind](tt.in)
		if err != nil {
			got = ""
		}
		if got != tt.want {
			t.Errorf("%s %q: %q (%v), want %q", tt.kind, tt.in, got, err, tt.want)
		}
	}
}

// What is written is read again as the same.
func FuzzCommunities(f *testing.F) {
	for _, s := range []string{"64512:100", "1:2:3", "rt:64512:1", "soo:192.0.2.1:1", "no-export", "lb:1:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := ParseCommunity(s); err == nil {
			if again, err := ParseCommunity(c.String()); err != nil || again != c {
				t.Errorf("%q is %s, which is %s (%v)", s, c, again, err)
			}
		}
		if c, err := ParseLargeCommunity(s); err == nil {
			if again, err := ParseLargeCommunity(c.String()); err != nil || again != c || c.Admin == ReservedASN {
				t.Errorf("%q is %s, which is %s (%v)", s, c, again, err)
			}
		}
		if c, err := ParseExtCommunity(s); err == nil {
			if again, err := ParseExtCommunity(c.String()); err != nil || again != c {
				t.Errorf("%q is %s, which is %s (%v)", s, c, again, err)
			}
		}
	})
}
