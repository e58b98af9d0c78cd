package provider

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/provider/ipam"
)

func newTestAllocator(t *testing.T, addresses ...string) *allocator {
	t.Helper()
	seamark, _ := fakeSeamark(t)
	a := newAllocator(seamark.VIPs, hooks{func() {}, func() {}, func() bool { return false }})
	valid, _ := ipam.Judge([]ipam.Candidate{{Pool: cluster.Pool{Name: "default", AutoAssign: true}, Addresses: addresses}}, nil)
	a.setPools(valid, nil)
	return a
}

func always(cluster.Name) bool { return true }

func (a *allocator) mustEnsure(t *testing.T, s cluster.Name) string {
	t.Helper()
	e, err := a.ensure(t.Context(), ipam.Request{Service: s, Families: []cluster.Family{cluster.IPv4}}, false, false)
	if err != nil {
		t.Fatal(err)
	}
	return join(e.Addresses)
}

// users are Services of the namespace shop.
func users(names ...string) (out []v1alpha1.VIPService) {
	for _, name := range names {
		out = append(out, v1alpha1.VIPService{ServiceReference: v1alpha1.ServiceReference{Namespace: "shop", Name: name}})
	}
	return out
}

// Between the deletion of a VIP and the moment when the watch shows it, the address is nobody's: not the Service's, who
// may come back under the same name, and not free.
func TestLeavingAddress(t *testing.T) {
	a := newTestAllocator(t, "192.0.2.0/31")
	web, other := cluster.Name{Namespace: "shop", Name: "web"}, cluster.Name{Namespace: "shop", Name: "other"}
	a.mustEnsure(t, web)
	old, err := a.client.Get(t.Context(), "192.0.2.0", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.release(t.Context(), web, neverMind); err != nil {
		t.Fatal(err)
	}
	a.vipSeen(old) // a late event about its status
	if held := a.held(web); len(held) > 0 {
		t.Fatalf("the Service holds %v, whose VIP is deleted", held)
	}
	if got := a.mustEnsure(t, web); got != "192.0.2.1" {
		t.Errorf("came back and got %q; want 192.0.2.1", got)
	}
	if restored := a.vipGone(old, always); len(restored) > 0 {
		t.Error("a deletion of our own counts as somebody else's")
	}
	if got := a.mustEnsure(t, other); got != "192.0.2.0" {
		t.Errorf("got %q after the watch showed the deletion; want 192.0.2.0", got)
	}
	a.vipGone(old, always) // later still, when the address is used again
	if held := a.held(other); len(held) != 1 {
		t.Errorf("an old event took %v away", held)
	}
}

// Another controller was faster: its VIP stands, and the next address is tried. One that it made for the same Service is
// taken over.
func TestVIPExists(t *testing.T) {
	a := newTestAllocator(t, "192.0.2.0/29")
	web, other := cluster.Name{Namespace: "shop", Name: "web"}, cluster.Name{Namespace: "shop", Name: "other"}
	faster := func(address string, services ...string) {
		_, err := a.client.Create(t.Context(), &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: address}, Spec: v1alpha1.VIPSpec{Address: address, Services: users(services...)}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	faster("192.0.2.0", "other")
	faster("192.0.2.1")
	faster("192.0.2.2", "web")
	if got := a.mustEnsure(t, web); got != "192.0.2.2" {
		t.Errorf("web got %q; want 192.0.2.2", got)
	}
	if got := a.mustEnsure(t, other); got != "192.0.2.0" {
		t.Errorf("other got %q; want 192.0.2.0", got)
	}
}

// An address that several Services use goes on being the others' when one leaves.
func TestLeaveShared(t *testing.T) {
	a := newTestAllocator(t, "192.0.2.0/29")
	web, other := cluster.Name{Namespace: "shop", Name: "web"}, cluster.Name{Namespace: "shop", Name: "other"}
	vip, err := a.client.Create(t.Context(), &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: "192.0.2.0"}, Spec: v1alpha1.VIPSpec{Address: "192.0.2.0", Services: users("other", "web")}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a.vipSeen(vip)
	if err := a.release(t.Context(), web, neverMind); err != nil {
		t.Fatal(err)
	}
	left, err := a.client.Get(t.Context(), "192.0.2.0", metav1.GetOptions{})
	if err != nil || left.Spec.UsedBy != "shop/other" || len(left.Spec.Services) != 1 || len(a.held(web)) > 0 || len(a.held(other)) != 1 {
		t.Errorf("left: %+v, %v", left, err)
	}
}

// A VIP that is older than what is known of it is what counts, after etcd was restored from a backup.
func TestVIPRestored(t *testing.T) {
	a := newTestAllocator(t, "192.0.2.0/29")
	web, gone := cluster.Name{Namespace: "shop", Name: "web"}, cluster.Name{Namespace: "shop", Name: "gone"}
	a.mustEnsure(t, web)
	vip, err := a.client.Get(t.Context(), "192.0.2.0", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	late := vip.DeepCopy()
	late.Generation, late.ResourceVersion, late.Spec.Services = vip.Generation+1, "1000", users("gone", "web")
	a.vipSeen(late)
	a.vipSeen(vip)
	if held := a.held(gone); len(held) != 1 {
		t.Fatalf("the Service holds %v: an event that is late counts", held)
	}
	if !a.doubts(vip) || a.doubts(late) {
		t.Error("it does not see what contradicts what it knows")
	}
	if err := a.release(t.Context(), gone, neverMind); err != nil {
		t.Fatal(err)
	}
	if len(a.held(gone)) != 0 || len(a.held(web)) != 1 || a.doubts(vip) {
		t.Errorf("they hold %v and %v", a.held(gone), a.held(web))
	}
	if err := a.release(t.Context(), web, neverMind); err != nil {
		t.Fatal(err)
	}
	if left, err := a.client.Get(t.Context(), "192.0.2.0", metav1.GetOptions{}); err == nil {
		t.Errorf("left: %+v", left)
	}
}

// A promise to a Service that never comes for it is taken back, but not at once.
func TestSweep(t *testing.T) {
	a := newTestAllocator(t, "192.0.2.0/31")
	gone := cluster.Name{Namespace: "shop", Name: "gone"}
	a.promise(ipam.Request{Service: gone, Families: []cluster.Family{cluster.IPv4}})
	written := a.mustEnsure(t, cluster.Name{Namespace: "shop", Name: "web"})
	exists := func(vip string) bool { return vip == written }
	if a.sweep(exists) || len(a.held(gone)) != 1 {
		t.Error("taken back at the first sweep")
	}
	if !a.sweep(exists) || len(a.held(gone)) != 0 || len(a.held(cluster.Name{Namespace: "shop", Name: "web"})) != 1 {
		t.Error("not taken back at the second sweep")
	}
}
