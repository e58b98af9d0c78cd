package ipam

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go4.org/netipx"

	"github.com/seamark-io/seamark/cluster"
)

// sharer is a Service that shares addresses: key, ports as in "53/UDP 53/TCP", and options.
func sharer(t *testing.T, name, key, ports string, options ...func(*Request)) Request {
	t.Helper()
	r := Request{Service: service(name), Families: only4, Sharing: Sharing{Terms: Terms{Key: key}}}
	for _, s := range strings.Fields(ports) {
		p, err := cluster.ParsePort(s)
		if err != nil {
			t.Fatal(err)
		}
		r.Ports = append(r.Ports, p)
	}
	slices.SortFunc(r.Ports, cluster.Port.Compare)
	for _, o := range options {
		o(&r)
	}
	return r
}

func local(selector string) func(*Request) {
	return func(r *Request) { r.Sharing.Selector = selector }
}

func reassign(r *Request) { r.Ask.Reassign = true }

func asking(a string) func(*Request) {
	return func(r *Request) { r.Ask.Addresses = addrs(a) }
}

func inNamespace(namespace string, with ...string) func(*Request) {
	return func(r *Request) { r.Service.Namespace, r.Sharing.Namespaces = namespace, with }
}

func sharingWith(namespaces ...string) func(*Request) {
	return func(r *Request) { r.Sharing.Namespaces = namespaces }
}

// Services come, change and come again; after each step the claims are as in want: "address: service port port, service …".
func TestSharing(t *testing.T) {
	type step struct {
		request Request
		want    string
		says    string // part of the problem; "": none
	}
	s := func(name, key, ports string, options ...func(*Request)) Request {
		return sharer(t, name, key, ports, options...)
	}
	const (
		a = "192.0.2.0"
		b = "192.0.2.1"
	)
	tests := []struct {
		name  string
		steps []step
	}{
		{"one alone has all its ports", []step{{s("a", "k", "80/TCP"), a + ": a", ""}}},
		{"two ports", []step{{s("a", "k", "80/TCP"), a + ": a", ""}, {s("b", "k", "443/TCP"), a + ": a 80/TCP, b 443/TCP", ""}}},
		{"one port of two protocols", []step{{s("a", "dns", "53/TCP"), a + ": a", ""}, {s("b", "dns", "53/UDP"), a + ": a 53/TCP, b 53/UDP", ""}}},
		{"the same port: an address each", []step{{s("a", "k", "80/TCP"), a + ": a", ""}, {s("b", "k", "80/TCP"), a + ": a; " + b + ": b", ""}}},
		{"the same port, by name", []step{{s("a", "k", "80/TCP"), a + ": a", ""}, {s("b", "k", "80/TCP 81/TCP", asking(a)), a + ": a", "port 80/TCP of 192.0.2.0 belongs to Service shop/a"}}},
		{"another key", []step{{s("a", "k", "80/TCP"), a + ": a", ""}, {s("b", "l", "443/TCP"), a + ": a; " + b + ": b", ""}}},
		{"another key, by name", []step{{s("a", "k", "80/TCP"), a + ": a", ""}, {s("b", "l", "443/TCP", asking(a)), a + ": a", `with the sharing key "k", and this Service has "l"`}}},
		{"no key, by name", []step{{s("a", "k", "80/TCP"), a + ": a", ""}, {s("b", "", "443/TCP", asking(a)), a + ": a", "192.0.2.0 belongs to Service shop/a"}}},
		{"the other has no key", []step{{s("a", "", "80/TCP"), a + ": a", ""}, {s("b", "k", "443/TCP", asking(a)), a + ": a", "give both the same annotation seamark.io/sharing-key"}}},

		{"two namespaces that agree", []step{{s("a", "k", "80/TCP", sharingWith("bar")), a + ": a", ""}, {s("b", "k", "443/TCP", inNamespace("bar", "shop")), a + ": bar/b 443/TCP, a 80/TCP", ""}}},
		{"one that agrees is not enough", []step{{s("a", "k", "80/TCP"), a + ": a", ""}, {s("b", "k", "443/TCP", inNamespace("bar", "shop")), a + ": a; " + b + ": bar/b", ""}}},
		{"the other does not agree, by name", []step{{s("a", "k", "80/TCP"), a + ": a", ""}, {s("b", "k", "443/TCP", inNamespace("bar", "shop"), asking(a)), a + ": a", "Service shop/a, which does not share with namespace bar"}}},
		{"this one does not agree, by name", []step{{s("a", "k", "80/TCP", sharingWith("bar")), a + ": a", ""}, {s("b", "k", "443/TCP", inNamespace("bar"), asking(a)), a + ": a", "add shop to the annotation seamark.io/sharing-namespaces"}}},

		{"Local, the same pods", []step{{s("a", "k", "80/TCP", local("app=web")), a + ": a", ""}, {s("b", "k", "443/TCP", local("app=web")), a + ": a 80/TCP, b 443/TCP", ""}}},
		{"Local, other pods", []step{{s("a", "k", "80/TCP", local("app=web")), a + ": a", ""}, {s("b", "k", "443/TCP", local("app=api"), asking(a)), a + ": a", `which selects "app=web", and this Service "app=api"`}}},
		{"Local and Cluster", []step{{s("a", "k", "80/TCP", local("app=web")), a + ": a", ""}, {s("b", "k", "443/TCP", asking(a)), a + ": a", "externalTrafficPolicy must be Cluster for all"}}},

		{"a port that is taken: it is told, and the other keeps it", []step{{s("a", "k", "80/TCP"), a + ": a", ""}, {s("b", "k", "443/TCP"), a + ": a 80/TCP, b 443/TCP", ""},
			{s("a", "k", "80/TCP 443/TCP"), a + ": a 80/TCP, b 443/TCP", "port 443/TCP of 192.0.2.0 belongs to Service shop/b"}, {s("b", "k", "443/TCP"), a + ": a 80/TCP, b 443/TCP", ""}}},
		{"all its ports are taken", []step{{s("a", "k", "80/TCP"), a + ": a", ""}, {s("b", "k", "443/TCP"), a + ": a 80/TCP, b 443/TCP", ""},
			{s("a", "k", "443/TCP"), a + ": a -, b 443/TCP", "443/TCP"}}},
		{"a port that is free", []step{{s("a", "k", "80/TCP"), a + ": a", ""}, {s("b", "k", "443/TCP"), a + ": a 80/TCP, b 443/TCP", ""}, {s("a", "k", "80/TCP 81/TCP"), a + ": a 80/TCP 81/TCP, b 443/TCP", ""}}},
		{"the key is lost: it is told to the one that lost it", []step{{s("a", "k", "80/TCP"), a + ": a", ""}, {s("b", "k", "443/TCP"), a + ": a 80/TCP, b 443/TCP", ""},
			{s("a", "", "80/TCP"), a + ": a 80/TCP, b 443/TCP", `and this Service has ""`}, {s("b", "k", "443/TCP"), a + ": a 80/TCP, b 443/TCP", ""}}},
		{"the key changes, one after the other", []step{{s("a", "k", "80/TCP"), a + ": a", ""}, {s("b", "k", "443/TCP"), a + ": a 80/TCP, b 443/TCP", ""},
			{s("a", "l", "80/TCP"), a + ": a 80/TCP, b 443/TCP", `"l"`}, {s("b", "l", "443/TCP"), a + ": a 80/TCP, b 443/TCP", ""}, {s("a", "l", "80/TCP"), a + ": a 80/TCP, b 443/TCP", ""}}},
		{"consent is withdrawn", []step{{s("a", "k", "80/TCP", sharingWith("bar")), a + ": a", ""}, {s("b", "k", "443/TCP", inNamespace("bar", "shop")), a + ": bar/b 443/TCP, a 80/TCP", ""},
			{s("a", "k", "80/TCP"), a + ": bar/b 443/TCP, a 80/TCP", "add bar to the annotation"}, {s("b", "k", "443/TCP", inNamespace("bar", "shop")), a + ": bar/b 443/TCP, a 80/TCP", ""}}},

		{"reassign: away from an address whose key it has lost", []step{{s("a", "k", "80/TCP"), a + ": a", ""}, {s("b", "k", "443/TCP"), a + ": a 80/TCP, b 443/TCP", ""},
			{s("b", "", "443/TCP"), a + ": a 80/TCP, b 443/TCP", `or annotate this Service with seamark.io/reassign: "true" to move it to another address`}, {s("b", "", "443/TCP", reassign), a + ": a; " + b + ": b", ""}}},
		{"reassign: away from where another has its port, to where it can share", []step{{s("c", "k", "80/TCP 443/TCP"), a + ": c", ""}, {s("a", "k", "80/TCP"), a + ": c; " + b + ": a", ""},
			{s("b", "k", "81/TCP"), a + ": b 81/TCP, c 80/TCP 443/TCP; " + b + ": a", ""}, {s("b", "k", "443/TCP", reassign), a + ": c; " + b + ": a 80/TCP, b 443/TCP", ""}}},
		{"reassign: the terms are others", []step{{s("a", "k", "80/TCP", local("app=web")), a + ": a", ""}, {s("b", "k", "443/TCP", local("app=web")), a + ": a 80/TCP, b 443/TCP", ""},
			{s("b", "k", "443/TCP", local("app=api"), reassign), a + ": a; " + b + ": b", ""}}},
		{"reassign: sharing that fits stays", []step{{s("a", "k", "80/TCP"), a + ": a", ""}, {s("b", "k", "443/TCP"), a + ": a 80/TCP, b 443/TCP", ""},
			{s("b", "k", "443/TCP", reassign), a + ": a 80/TCP, b 443/TCP", ""}}},
		{"reassign: not from the address that it asks for", []step{{s("a", "k", "80/TCP"), a + ": a", ""}, {s("b", "k", "443/TCP", asking(a)), a + ": a 80/TCP, b 443/TCP", ""},
			{s("b", "k", "80/TCP", asking(a), reassign), a + ": a 80/TCP, b -", "change the port, or ask for another address"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := indexOf(poolOf(t, "p", "192.0.2.0/28"))
			for i, step := range tt.steps {
				x.Describe(step.request)
				d := x.Decide(step.request)
				for _, c := range d.Changes {
					if c.Claim != nil && c.Claim.Since.IsZero() {
						c.Claim.Since = time.Unix(int64(i+1), 0)
					}
					x.Set(c)
				}
				if got := written(x); got != step.want {
					t.Errorf("step %d: %q; want %q (problem: %v)", i+1, got, step.want, d.Problem)
				}
				if (d.Problem == nil) != (step.says == "") || d.Problem != nil && !strings.Contains(d.Problem.Message, step.says) {
					t.Errorf("step %d: problem %v; want %q", i+1, d.Problem, step.says)
				}
			}
			// One goes: who stays behind alone has all its ports again.
			for _, c := range x.Leave(service("a")) {
				x.Set(c)
			}
			for a, c := range x.Claims() {
				if len(c.Users) == 1 && (c.Users[0].Ports != nil || c.Terms != Terms{}) {
					t.Errorf("%s: %v", a, c)
				}
			}
		})
	}
}

func written(x *Index) string {
	var all []string
	for a, c := range x.Claims() {
		var users []string
		for _, u := range c.Users {
			text := strings.TrimPrefix(u.Service.String(), "shop/")
			for _, p := range u.Ports {
				text += " " + p.String()
			}
			if len(c.Users) > 1 && len(u.Ports) == 0 {
				text += " -"
			}
			users = append(users, text)
		}
		all = append(all, fmt.Sprintf("%s: %s", a, strings.Join(users, ", ")))
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

func TestReservations(t *testing.T) {
	p := poolOf(t, "p", "192.0.2.0/28")
	retaining := poolOf(t, "r", "198.51.100.0/28")
	retaining.Retain = true
	retaining.AutoAssign = false
	other := cluster.Selector{{Key: "tier", Operator: cluster.In, Values: []string{"other"}}}
	tests := []struct {
		name    string
		pools   []cluster.Pool
		edit    func(*cluster.Pool)
		request Request
		want    string
		reason  Reason
		says    string
	}{
		{name: "it gets its own", pools: []cluster.Pool{p}, request: Request{Service: service("me")}, want: "192.0.2.5"},
		{name: "others do not", pools: []cluster.Pool{p}, request: Request{Service: service("x"), Ask: Ask{Addresses: addrs("192.0.2.5")}}, reason: AddressTaken, says: "reserved for Service shop/me"},
		{name: "nor one of its name elsewhere", pools: []cluster.Pool{p}, request: Request{Service: cluster.Name{Namespace: "bar", Name: "me"}}, want: "192.0.2.0"},
		{name: "by name", pools: []cluster.Pool{p}, request: Request{Service: service("me"), Ask: Ask{Addresses: addrs("192.0.2.5")}}, want: "192.0.2.5"},
		{name: "another by name", pools: []cluster.Pool{p}, request: Request{Service: service("me"), Ask: Ask{Addresses: addrs("192.0.2.6")}}, want: "192.0.2.6"},
		{name: "whatever the selector says", pools: []cluster.Pool{p}, edit: func(p *cluster.Pool) { p.ServiceSelector = other }, request: Request{Service: service("me")}, want: "192.0.2.5"},
		{name: "also where nobody gets one without asking", pools: []cluster.Pool{p}, edit: func(p *cluster.Pool) { p.AutoAssign = false }, request: Request{Service: service("me")}, want: "192.0.2.5"},
		{name: "not from a draining pool", pools: []cluster.Pool{p}, edit: func(p *cluster.Pool) { p.Draining = true }, request: Request{Service: service("me")}, reason: PoolDraining},
		{name: "not from no pool", pools: []cluster.Pool{retaining}, request: Request{Service: service("me"), Ask: Ask{Pool: "r"}}, want: "198.51.100.0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pools := slices.Clone(tt.pools)
			if tt.edit != nil {
				tt.edit(&pools[0])
			}
			x := indexOf(pools...)
			x.Hold(addr("192.0.2.5"), &Claim{ReservedFor: service("me")})
			tt.request.Families = only4
			d := x.Decide(tt.request)
			if !slices.Equal(d.Addresses, addrs(tt.want)) || reasonOf(d.Problem) != tt.reason || d.Problem != nil && !strings.Contains(d.Problem.Message, tt.says) {
				t.Fatalf("got %v, %v; want %q, %q", d.Addresses, d.Problem, tt.want, tt.reason)
			}
			for _, c := range d.Changes {
				x.Set(c)
			}
			for _, c := range x.Leave(tt.request.Service) {
				x.Set(c)
			}
			if c, _ := x.Claim(addr("192.0.2.5")); c.ReservedFor != service("me") {
				t.Errorf("the reservation is gone: %v", c)
			}
		})
	}

	t.Run("a pool that has lost what it retains", func(t *testing.T) {
		lost := Claim{Pool: "p", ReservedFor: service("me")}
		me := Request{Service: service("me"), Families: only4}
		asks, moves, elsewhere := me, me, me
		asks.Ask.Addresses = addrs("203.0.113.9")
		moves.Ask.Reassign = true
		elsewhere.Ask.Pool = "r"
		another := Request{Service: service("another"), Families: only4, Ask: asks.Ask}
		drains, r := Pool{Pool: p}, Pool{Pool: retaining}
		drains.Draining = true
		taken := Pool{Pool: poolOf(t, "p", "192.0.2.0/28", "203.0.113.0/28")}
		taken.Taken = []Overlap{{IPRange: netipx.MustParseIPRange("203.0.113.8-203.0.113.15"), By: "somebody's"}}
		for name, tt := range map[string]struct {
			pools   []Pool
			claim   Claim
			request Request
			want    string
			reason  Reason
		}{
			"its Service comes back":      {[]Pool{{Pool: p}, r}, lost, me, "203.0.113.9", ""},
			"and asks for it":             {[]Pool{{Pool: p}, r}, lost, asks, "203.0.113.9", ""},
			"another asks for it":         {[]Pool{{Pool: p}, r}, lost, another, "", AddressTaken},
			"it asks for what fits today": {[]Pool{{Pool: p}, r}, lost, moves, "192.0.2.0", ""},
			"it asks for another pool":    {[]Pool{{Pool: p}, r}, lost, elsewhere, "198.51.100.0", ""},
			"the pool drains":             {[]Pool{drains, r}, lost, asks, "", PoolDraining},
			"the pool is gone":            {[]Pool{r}, lost, asks, "", AddressNotInPool},
			"it is somebody's":            {[]Pool{taken, r}, lost, asks, "", AddressNotInPool},
			"it never was a pool's":       {[]Pool{{Pool: p}, r}, Claim{ReservedFor: service("me")}, me, "192.0.2.0", ""},
		} {
			t.Run(name, func(t *testing.T) {
				x := NewIndex()
				x.SetPools(tt.pools, nil)
				x.Hold(addr("203.0.113.9"), &tt.claim)
				d := x.Decide(tt.request)
				if !slices.Equal(d.Addresses, addrs(tt.want)) || reasonOf(d.Problem) != tt.reason {
					t.Fatalf("got %v, %v; want %q, %q", d.Addresses, d.Problem, tt.want, tt.reason)
				}
				for _, c := range d.Changes {
					x.Set(c)
				}
				if again := x.Decide(tt.request); len(again.Changes) > 0 {
					t.Errorf("a second time is no no-op: %+v", again)
				}
				if c, _ := x.Claim(addr("203.0.113.9")); c.ReservedFor != service("me") || c.Pool != tt.claim.Pool {
					t.Errorf("the reservation is now %+v", c)
				}
			})
		}
	})

	t.Run("a pool that retains and is refused", func(t *testing.T) {
		younger := Pool{Pool: poolOf(t, "younger", "198.51.100.0/24")}
		for name, tt := range map[string]struct {
			refused map[string]Refused
			stays   string // the pool of the address while it is in use
			kept    bool   // for its Service, after that is gone
		}{
			"invalid":              {map[string]Refused{"r": {Why: "x", Retain: true}}, "r", true},
			"invalid, and Delete":  {map[string]Refused{"r": {Why: "x"}}, "r", false},
			"being deleted":        {map[string]Refused{"r": {Why: "x", Retain: true, Deleted: true}}, "younger", false},
			"not there any longer": {nil, "younger", false},
		} {
			t.Run(name, func(t *testing.T) {
				x := indexOf(retaining)
				me := Request{Service: service("me"), Families: only4, Ask: Ask{Addresses: addrs("198.51.100.0")}}
				for _, c := range x.Decide(me).Changes {
					x.Set(c)
				}
				x.SetPools([]Pool{younger}, tt.refused)
				for _, c := range x.Decide(me).Changes {
					x.Set(c)
				}
				if c, _ := x.Claim(addr("198.51.100.0")); c.Pool != tt.stays || !c.uses(me.Service) {
					t.Errorf("it has %+v; want it from %s", c, tt.stays)
				}
				for _, c := range x.Leave(me.Service) {
					x.Set(c)
				}
				if c, held := x.Claim(addr("198.51.100.0")); held != tt.kept || held && c.ReservedFor != me.Service {
					t.Errorf("%+v is left; want it kept: %t", c, tt.kept)
				}
			})
		}
	})

	t.Run("a pool that retains", func(t *testing.T) {
		x := indexOf(retaining, p)
		settle := func(name string, ask Ask) []string {
			d := x.Decide(Request{Service: service(name), Families: only4, Ask: ask})
			for _, c := range d.Changes {
				x.Set(c)
			}
			var out []string
			for _, a := range d.Addresses {
				out = append(out, a.String())
			}
			return out
		}
		leave := func(name string) {
			for _, c := range x.Leave(service(name)) {
				x.Set(c)
			}
		}
		settle("me", Ask{Pool: "r"})
		leave("me")
		if got := settle("other", Ask{Pool: "r"}); !slices.Equal(got, []string{"198.51.100.1"}) {
			t.Errorf("another got %v", got)
		}
		if got := settle("me", Ask{}); !slices.Equal(got, []string{"198.51.100.0"}) {
			t.Errorf("it comes back and gets %v", got)
		}
		settle("me", Ask{Pool: "p"})
		if v4, _ := x.CountsOf("r"); v4.Used != 1 || v4.Reserved != 1 {
			t.Errorf("who leaves an address for another by its own wish keeps what is reserved: %+v", v4)
		}
	})
}

// An address that a Service asks for by name is not given to one that would take any.
func TestAskedAddresses(t *testing.T) {
	gold := poolOf(t, "gold", "192.0.2.0/30")
	gold.ServiceSelector = cluster.Selector{{Key: "tier", Operator: cluster.In, Values: []string{"gold"}}}
	labels := map[string]string{"tier": "gold"}
	x := indexOf(gold)
	x.Describe(Request{Service: service("asks"), Families: only4, Labels: labels, Ask: Ask{Addresses: addrs("192.0.2.0")}})
	x.Describe(Request{Service: service("may-not"), Families: only4, Ask: Ask{Addresses: addrs("192.0.2.1")}})
	any := Request{Service: service("any"), Families: only4, Labels: labels}
	if d := x.Decide(any); !slices.Equal(d.Addresses, addrs("192.0.2.1")) {
		t.Errorf("got %v, want the first that nobody asks for who may have it", d.Addresses)
	}
	for _, a := range addrs("192.0.2.1 192.0.2.2 192.0.2.3") {
		other := usedBy("other")
		x.Hold(a, &other)
	}
	if d := x.Decide(any); d.Problem == nil || !strings.Contains(d.Problem.Message, "3 of 4 in use, and 1 asked for by name") {
		t.Errorf("got %v, %v", d.Addresses, d.Problem)
	}
	x.Forget(service("asks"))
	if d := x.Decide(any); !slices.Equal(d.Addresses, addrs("192.0.2.0")) {
		t.Errorf("nobody asks any more, but got %v, %v", d.Addresses, d.Problem)
	}
	asks := Request{Service: service("asks"), Families: only4, Labels: labels, Ask: Ask{Addresses: addrs("192.0.2.0")}}
	for _, step := range []struct {
		name string
		edit func()
		kept bool
	}{
		{"it asks again", func() {}, true},
		{"it names another pool", func() { asks.Ask.Pool = "other" }, false},
		{"it names the address's", func() { asks.Ask.Pool = "gold" }, true},
		{"it has no such family any more", func() { asks.Families = only6 }, false},
		{"it has both", func() { asks.Families = dual }, true},
	} {
		step.edit()
		if news := x.Describe(asks); !news {
			t.Errorf("%s: that is news to others", step.name)
		}
		if d := x.Decide(any); (d.Problem != nil) != step.kept {
			t.Errorf("%s: got %v, %v; is the address kept for it: %t", step.name, d.Addresses, d.Problem, step.kept)
		}
		if x.Describe(asks) {
			t.Errorf("%s: it is no news when it is told again", step.name)
		}
	}
}
