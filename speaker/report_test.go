package speaker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"github.com/seamark-io/seamark/api/client"
	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/l2"
	"github.com/seamark-io/seamark/speaker/plan"
)

// fakeAPI takes what is applied to the status of VIPs and BGPPeers, as lines of text.
type fakeAPI struct {
	mu    sync.Mutex
	wrote []string
	down  bool
	vips  []v1alpha1.VIP
	peers []v1alpha1.BGPPeer
	pools []v1alpha1.IPPool
	// refused are the names of VIPs that are not written.
	refused map[string]bool
}

func (f *fakeAPI) client() *client.Client {
	return &client.Client{VIPs: fakeVIPs{f: f}, BGPPeers: fakePeers{f: f}, IPPools: fakePools{f: f}}
}

type fakeVIPs struct {
	client.VIPs
	f *fakeAPI
}

type fakePeers struct {
	client.BGPPeers
	f *fakeAPI
}

type fakePools struct {
	client.IPPools
	f *fakeAPI
}

func (p fakePools) List(context.Context, metav1.ListOptions) (*v1alpha1.IPPoolList, error) {
	return &v1alpha1.IPPoolList{Items: p.f.pools}, p.f.err()
}

func (p fakePools) Patch(ctx context.Context, name string, pt types.PatchType, data []byte, o metav1.PatchOptions, sub ...string) (*v1alpha1.IPPool, error) {
	var obj v1alpha1.IPPool
	var own []string
	err := p.f.apply(ctx, pt, data, o, sub, &obj)
	for _, a := range obj.Status.NodeAddresses {
		own = append(own, fmt.Sprintf("%s %s %s", a.Node, a.Address, a.Use))
	}
	return &obj, p.f.record(err, fmt.Sprintf("%s %s %v", obj.Kind, name, own))
}

func (v fakeVIPs) List(context.Context, metav1.ListOptions) (*v1alpha1.VIPList, error) {
	return &v1alpha1.VIPList{Items: v.f.vips}, v.f.err()
}

func (v fakeVIPs) Get(_ context.Context, name string, _ metav1.GetOptions) (*v1alpha1.VIP, error) {
	for i := range v.f.vips {
		if a, err := netip.ParseAddr(v.f.vips[i].Spec.Address); err == nil && cluster.VIPName(a) == name {
			return &v.f.vips[i], v.f.err()
		}
	}
	return &v1alpha1.VIP{}, v.f.err()
}

func (p fakePeers) List(context.Context, metav1.ListOptions) (*v1alpha1.BGPPeerList, error) {
	return &v1alpha1.BGPPeerList{Items: p.f.peers}, p.f.err()
}

func (v fakeVIPs) Patch(ctx context.Context, name string, pt types.PatchType, data []byte, o metav1.PatchOptions, sub ...string) (*v1alpha1.VIP, error) {
	var obj v1alpha1.VIP
	var vias []string
	err := v.f.apply(ctx, pt, data, o, sub, &obj)
	if v.f.refused[name] {
		err = errors.New("refused")
	}
	for _, a := range obj.Status.Announcers {
		if a.Since == nil || a.Since.IsZero() {
			err = errors.New("no since")
		}
		vias = append(vias, a.Node+" "+a.Via)
	}
	for _, d := range obj.Status.Duplicates {
		vias = append(vias, d.Node+" duplicate "+d.MAC+" "+d.Interface)
	}
	if slices.ContainsFunc(obj.Status.Announcers, func(a v1alpha1.Announcer) bool { return a.Via != v1alpha1.ViaBGP }) != (obj.Status.Owner == "n1") {
		err = fmt.Errorf("owner %q with %v", obj.Status.Owner, vias)
	}
	return &obj, v.f.record(err, fmt.Sprintf("%s %s %v", obj.Kind, name, vias))
}

func (p fakePeers) Patch(ctx context.Context, name string, pt types.PatchType, data []byte, o metav1.PatchOptions, sub ...string) (*v1alpha1.BGPPeer, error) {
	var obj v1alpha1.BGPPeer
	var nodes []string
	err := p.f.apply(ctx, pt, data, o, sub, &obj)
	for _, n := range obj.Status.Nodes {
		nodes = append(nodes, fmt.Sprintf("%s %s %d %q", n.Node, n.State, n.PrefixesSent, n.LastError))
	}
	return &obj, p.f.record(err, fmt.Sprintf("%s %s %v", obj.Kind, name, nodes))
}

func (f *fakeAPI) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return errors.New("the API server is down")
	}
	return nil
}

func (f *fakeAPI) apply(ctx context.Context, pt types.PatchType, data []byte, o metav1.PatchOptions, sub []string, obj any) error {
	if pt != types.ApplyPatchType || !slices.Equal(sub, []string{"status"}) || o.FieldManager != "seamark-node/n1" || ctx.Err() != nil {
		return fmt.Errorf("not a server-side apply of the status as this node: %s %v %+v, ended: %v", pt, sub, o, ctx.Err() != nil)
	}
	return errors.Join(json.Unmarshal(data, obj), f.err())
}

func (f *fakeAPI) record(err error, line string) error {
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wrote = append(f.wrote, line)
	return nil
}

// take returns what was written since the last take, sorted.
func (f *fakeAPI) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.wrote
	f.wrote = nil
	slices.Sort(w)
	return w
}

func (f *fakeAPI) setDown(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

var (
	vipA = netip.MustParseAddr("192.0.2.1")
	vipB = netip.MustParseAddr("192.0.2.2")
	web  = cluster.Name{Namespace: "default", Name: "web"}
	webs = map[cluster.Name]*cluster.Service{web: {Name: web, UID: "uid"}}
)

// announcing is a report that the Service's VIP is announced, by the ways.
func announcing(vias ...plan.Via) vipReport {
	v := vipReport{services: []cluster.Name{web}}
	for _, via := range vias {
		v.ways = append(v.ways, wayReport{via: via, where: "eth0"})
	}
	return v
}

// seen is an observation of vipA and, if there are two, vipB.
func seen(vips ...vipReport) observation {
	o := observation{services: webs}
	for i, v := range vips {
		v.addr = []netip.Addr{vipA, vipB}[i]
		o.vips = append(o.vips, v)
	}
	return o
}

func (o observation) with(peers map[string]peerReport) observation {
	o.peers = peers
	return o
}

func (o observation) look() observation { return o }

func events(r *record.FakeRecorder) (out []string) {
	for {
		select {
		case e := <-r.Events:
			out = append(out, e)
		default:
			slices.Sort(out)
			return out
		}
	}
}

func check(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\ngot  %q\nwant %q", what, got, want)
	}
}

func TestReporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// An agent that died left an entry that is still true, one that is not, and a session.
		long := metav1.NewTime(time.Now().Add(-time.Hour))
		left := func(a netip.Addr) v1alpha1.VIP {
			return v1alpha1.VIP{Spec: v1alpha1.VIPSpec{Address: a.String()}, Status: v1alpha1.VIPStatus{Announcers: []v1alpha1.Announcer{
				{Node: "n1", Via: "ARP", Since: &long}, {Node: "n2", Via: "BGP", Since: &long},
			}}}
		}
		f := &fakeAPI{vips: []v1alpha1.VIP{left(vipA), left(vipB)}, peers: []v1alpha1.BGPPeer{{
			ObjectMeta: metav1.ObjectMeta{Name: "old"}, Status: v1alpha1.BGPPeerStatus{Nodes: []v1alpha1.BGPPeerNode{{Node: "n1", State: "Idle"}}},
		}}, pools: []v1alpha1.IPPool{{
			ObjectMeta: metav1.ObjectMeta{Name: "mended"}, Status: v1alpha1.IPPoolStatus{NodeAddresses: []v1alpha1.NodeAddress{{Node: "n1", Address: "192.0.2.9", Use: "Interface"}}},
		}}}
		recorder := record.NewFakeRecorder(100)
		r := newReporter(Config{Node: "n1", Seamark: f.client(), Recorder: recorder, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { r.run(ctx); close(ended) }()
		now := func(o observation) {
			r.set(o.look)
			time.Sleep(time.Second)
			synctest.Wait()
		}

		moved := announcing()
		moved.ways = []wayReport{{via: plan.ARP, why: plan.Reason{Code: plan.NotOwner, Text: "node n2 owns it"}}}
		now(seen(announcing(plan.ARP), moved))
		check(t, "what an earlier agent left", f.take(), "BGPPeer old []", "IPPool mended []")
		time.Sleep(inherit)
		synctest.Wait()
		check(t, "what an earlier agent announced", f.take(), "VIP 192.0.2.2 []")
		check(t, "Events", events(recorder), "Normal NotAnnouncing node n1 no longer announces 192.0.2.2 by ARP: node n2 owns it")

		up := peerReport{state: "Established", since: time.Now(), prefixesSent: 1}
		o := seen(announcing(plan.ARP, plan.BGPRoute)).with(map[string]peerReport{"tor": up})
		now(o)
		check(t, "a session came up", f.take(), `BGPPeer tor [n1 Established 1 ""]`, "VIP 192.0.2.1 [n1 ARP n1 BGP]")
		check(t, "Events", events(recorder), "Normal Announcing node n1 announces 192.0.2.1 by BGP to eth0")
		now(o)
		check(t, "the same again", f.take())

		// Counts wait, errors do not.
		up.prefixesSent = 2
		now(o.with(map[string]peerReport{"tor": up}))
		up.prefixesSent = 3
		now(o.with(map[string]peerReport{"tor": up}))
		check(t, "a count", f.take())
		time.Sleep(countPause)
		synctest.Wait()
		check(t, "a count, later", f.take(), `BGPPeer tor [n1 Established 3 ""]`)
		lost := peerReport{state: "Active", lastError: "no route"}
		now(o.with(map[string]peerReport{"tor": lost}))
		check(t, "an error", f.take(), `BGPPeer tor [n1 Active 0 "no route"]`)

		// A pool that holds the node's own address.
		own := o.with(map[string]peerReport{"tor": lost})
		own.own = map[string]poolReport{"bad": {addresses: []v1alpha1.NodeAddress{{Node: "n1", Address: "192.0.2.1", Use: v1alpha1.UseGateway}}}}
		now(own)
		now(own)
		check(t, "an address of its own", f.take(), "IPPool bad [n1 192.0.2.1 Gateway]")
		own.own = nil
		now(own)
		check(t, "not any more", f.take(), "IPPool bad []")

		// While the API is down the newest observation waits.
		f.setDown(true)
		now(seen(announcing(plan.BGPRoute)))
		now(seen(announcing(plan.ARP), announcing(plan.ARP)))
		f.setDown(false)
		time.Sleep(retryMax)
		synctest.Wait()
		check(t, "the API is back", f.take(), "BGPPeer tor []", "VIP 192.0.2.1 [n1 ARP]", "VIP 192.0.2.2 [n1 ARP]")
		events(recorder)

		// One node tells, once, why none announces.
		none := announcing()
		none.nobody = plan.Reason{Code: plan.NoEndpoints, Text: "Service default/web has no ready endpoint"}
		for range 2 {
			now(seen(announcing(plan.ARP), none))
		}
		check(t, "Events at once", events(recorder),
			"Normal NotAnnouncing node n1 no longer announces 192.0.2.2 by ARP: Service default/web has no ready endpoint")
		time.Sleep(3 * nobodyGrace)
		synctest.Wait()
		check(t, "Events when it lasts", events(recorder),
			"Warning NotAnnounced 192.0.2.2 is not announced: Service default/web has no ready endpoint")
		f.take()

		cancel()
		<-ended
		check(t, "at the end", f.take())
	})
}

// With an object that is deleted goes what was written to it: one that is made again with the same name is written anew, also
// when it all happened between two looks. For the Services nothing changed.
func TestMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeAPI{}
		recorder := record.NewFakeRecorder(100)
		r := newReporter(Config{Node: "n1", Seamark: f.client(), Recorder: recorder, Log: slog.New(slog.DiscardHandler)})
		go r.run(t.Context())
		now := func(uid string) {
			v := announcing(plan.ARP)
			v.uid = uid
			o := seen(v).with(map[string]peerReport{"tor": {uid: uid, state: "Idle", lastError: "no route"}})
			o.own = map[string]poolReport{"bad": {uid, []v1alpha1.NodeAddress{{Node: "n1", Address: "192.0.2.1", Use: v1alpha1.UseGateway}}}}
			r.set(o.look)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		all := []string{`BGPPeer tor [n1 Idle 0 "no route"]`, "IPPool bad [n1 192.0.2.1 Gateway]", "VIP 192.0.2.1 [n1 ARP]"}
		now("1")
		check(t, "at first", f.take(), all...)
		check(t, "Events", events(recorder), "Normal Announcing node n1 announces 192.0.2.1 by ARP on eth0")
		now("1")
		check(t, "the same again", f.take())
		now("2")
		check(t, "made again", f.take(), all...)
		check(t, "Events of the second", events(recorder))
		now("2")
		check(t, "the second again", f.take())
	})
}

// While addresses are taken over nothing is reported, but for a node that comes and goes all the time.
func TestReportsArePutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeAPI{}
		r := newReporter(Config{Node: "n1", Seamark: f.client(), Log: slog.New(slog.DiscardHandler)})
		go r.run(t.Context())
		o := seen(announcing(plan.ARP))
		r.set(o.look)
		time.Sleep(pause / 2)
		r.putOff(takeover)
		time.Sleep(takeover - time.Millisecond)
		synctest.Wait()
		check(t, "put off", f.take())
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		check(t, "after that", f.take(), "VIP 192.0.2.1 [n1 ARP]")

		o = seen()
		r.set(o.look)
		for range maxPutOff + 1 {
			r.putOff(takeover)
			time.Sleep(takeover)
			synctest.Wait()
		}
		if len(f.take()) == 0 {
			t.Error("a node that comes and goes keeps everything from being reported")
		}
	})
}

// Many VIPs that move at once are written a few at a time, and not before they have moved.
func TestManyMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeAPI{}
		r := newReporter(Config{Node: "n1", Seamark: f.client(), Log: slog.New(slog.DiscardHandler)})
		go r.run(t.Context())
		step := func(o observation) (perRound []int) {
			r.set(o.look)
			for range 5 {
				time.Sleep(pause - time.Millisecond)
				synctest.Wait()
				early := len(f.take())
				time.Sleep(minInterval + time.Millisecond)
				synctest.Wait()
				perRound = append(perRound, early, len(f.take()))
			}
			return perRound
		}
		taken, given := seen(), seen()
		addr := vipA
		for range 2*batch + 3 {
			v := announcing(plan.ARP)
			v.addr = addr
			taken.vips = append(taken.vips, v)
			given.vips = append(given.vips, vipReport{addr: addr, services: v.services})
			addr = addr.Next()
		}
		want := []int{0, batch, 0, batch, 0, 3, 0, 0, 0, 0}
		if got := step(taken); !slices.Equal(got, want) {
			t.Errorf("taken: %v writes, want %v", got, want)
		}
		if got := step(given); !slices.Equal(got, want) {
			t.Errorf("given away: %v writes, want %v", got, want)
		}
	})
}

// VIPs that the API server does not take are in nobody's way, also where there are more of them than in a round.
func TestRefusedVIPs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeAPI{refused: map[string]bool{}}
		o, addr := seen(), vipA
		for i := range 3 * batch {
			v := announcing(plan.ARP)
			v.addr = addr
			o.vips = append(o.vips, v)
			f.refused[cluster.VIPName(addr)] = i < batch+3
			addr = addr.Next()
		}
		r := newReporter(Config{Node: "n1", Seamark: f.client(), Log: slog.New(slog.DiscardHandler)})
		go r.run(t.Context())
		r.set(o.look)
		time.Sleep(4 * retryMax)
		synctest.Wait()
		if n := len(f.take()); n != 2*batch-3 {
			t.Errorf("%d VIPs are written, of %d that are taken", n, 2*batch-3)
		}
	})
}

// An agent that was stopped and starts again writes nothing as long as it comes to the same, and tells nothing twice, although
// sessions take their time.
func TestRestartIsNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := metav1.NewTime(time.Now().Add(-time.Hour))
		f := &fakeAPI{
			vips: []v1alpha1.VIP{{Spec: v1alpha1.VIPSpec{Address: vipA.String()}, Status: v1alpha1.VIPStatus{
				Announcers: []v1alpha1.Announcer{{Node: "n1", Via: "ARP", Since: &long}, {Node: "n1", Via: "BGP", Since: &long}},
				Duplicates: []v1alpha1.Duplicate{{Node: "n1", MAC: "02:00:00:00:00:09", Since: &long}},
			}}},
			peers: []v1alpha1.BGPPeer{{ObjectMeta: metav1.ObjectMeta{Name: "tor"}, Status: v1alpha1.BGPPeerStatus{Nodes: []v1alpha1.BGPPeerNode{{Node: "n1", State: "Established"}}}}},
		}
		recorder := record.NewFakeRecorder(100)
		r := newReporter(Config{Node: "n1", Seamark: f.client(), Recorder: recorder, Log: slog.New(slog.DiscardHandler)})
		go r.run(t.Context())
		step := func(o observation, state string) {
			r.set(o.with(map[string]peerReport{"tor": {state: state, since: time.Now()}}).look)
			time.Sleep(3 * time.Second)
			synctest.Wait()
		}
		step(seen(announcing()), "Idle")
		step(seen(announcing(plan.ARP)), "Active")
		check(t, "while sessions come up", f.take())
		dup := seen(announcing(plan.ARP, plan.BGPRoute))
		dup.duplicates = map[netip.Addr]l2.Duplicate{vipA: {Addr: vipA, MAC: plan.MAC{2, 0, 0, 0, 0, 9}}}
		step(dup, "Established")
		check(t, "when all is as before", f.take(), `BGPPeer tor [n1 Established 0 ""]`)
		time.Sleep(time.Minute)
		synctest.Wait()
		check(t, "later", f.take())
		check(t, "Events", events(recorder))
	})
}

func TestDuplicateIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, recorder := &fakeAPI{}, record.NewFakeRecorder(100)
		r := newReporter(Config{Node: "n1", Seamark: f.client(), Recorder: recorder, Log: slog.New(slog.DiscardHandler)})
		go r.run(t.Context())
		step := func(d ...l2.Duplicate) {
			o := seen(announcing(plan.ARP))
			o.duplicates = map[netip.Addr]l2.Duplicate{}
			for _, d := range d {
				o.duplicates[d.Addr] = d
			}
			r.set(o.look)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		step()
		f.take()
		events(recorder)
		for range 3 {
			step(l2.Duplicate{Addr: vipA, MAC: plan.MAC{2, 0, 0, 0, 0, 9}, Interface: "eth0", Since: time.Now()})
		}
		check(t, "status", f.take(), "VIP 192.0.2.1 [n1 ARP n1 duplicate 02:00:00:00:00:09 eth0]")
		check(t, "Events", events(recorder), "Warning DuplicateAddress 192.0.2.1 is used by another station as well: node n1 sees it at 02:00:00:00:00:09 on eth0, which is none of the cluster's nodes; take the address away from it, or out of the pool")
		step()
		check(t, "when it is over", f.take(), "VIP 192.0.2.1 [n1 ARP]")
	})
}

// Nobody is told that a VIP is not announced which another node announces, as this one cannot see but read.
func TestAnnouncedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeAPI{vips: []v1alpha1.VIP{{Spec: v1alpha1.VIPSpec{Address: vipA.String()}, Status: v1alpha1.VIPStatus{Announcers: []v1alpha1.Announcer{{Node: "n2", Via: "ARP"}}}}}}
		recorder := record.NewFakeRecorder(100)
		r := newReporter(Config{Node: "n1", Seamark: f.client(), Recorder: recorder, Log: slog.New(slog.DiscardHandler)})
		go r.run(t.Context())
		none := announcing()
		none.nobody = plan.Reason{Code: plan.NoSubnet, Text: "no interface"}
		o := seen(none)
		o.ready = map[string]bool{"n2": true}
		r.set(o.look)
		time.Sleep(time.Hour)
		synctest.Wait()
		check(t, "while n2 announces it", events(recorder))
		o.ready = nil
		r.set(o.look)
		time.Sleep(2 * nobodyMax)
		synctest.Wait()
		check(t, "after n2 has gone", events(recorder), "Warning NotAnnounced 192.0.2.1 is not announced: no interface")
	})
}
