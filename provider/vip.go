package provider

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/provider/ipam"
)

// vipObject is what is known of a VIP object: which version of its spec says what.
type vipObject struct {
	uid        types.UID
	generation int64
	// version is the newest resourceVersion that was seen.
	version string
	// claim must not be changed: the index has it too.
	claim *ipam.Claim
}

func objectOf(vip *v1alpha1.VIP) vipObject {
	c := claimOf(vip)
	return vipObject{uid: vip.UID, generation: vip.Generation, version: vip.ResourceVersion, claim: &c}
}

// addressOf returns the address that a VIP locks: that of its name.
func addressOf(vip *v1alpha1.VIP) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.ReplaceAll(vip.Name, "-", ":"))
	return a, err == nil && cluster.VIPName(a) == vip.Name
}

// claimOf reads a VIP. One whose spec contradicts its name locks its address and gives it to nobody.
func claimOf(vip *v1alpha1.VIP) ipam.Claim {
	c := ipam.Claim{Pool: vip.Spec.Pool, Since: vip.CreationTimestamp.Time}
	if a, ok := addressOf(vip); !ok || a.String() != vip.Spec.Address {
		return c
	}
	if r := vip.Spec.ReservedFor; r != nil {
		c.ReservedFor = cluster.Name{Namespace: r.Namespace, Name: r.Name}
	}
	if s := vip.Spec.Sharing; s != nil {
		c.Terms = ipam.Terms{Key: s.Key, Selector: s.Selector}
	}
	for _, s := range vip.Spec.Services {
		u := ipam.User{Service: cluster.Name{Namespace: s.Namespace, Name: s.Name}}
		if len(vip.Spec.Services) > 1 {
			for _, text := range s.Ports {
				if p, err := cluster.ParsePort(text); err == nil {
					u.Ports = append(u.Ports, p)
				}
			}
			slices.SortFunc(u.Ports, cluster.Port.Compare)
		}
		c.Users = append(c.Users, u)
	}
	slices.SortFunc(c.Users, func(a, b ipam.User) int { return a.Service.Compare(b.Service) })
	return c
}

// specOf writes a claim as the spec of the VIP of its address.
func specOf(a netip.Addr, c ipam.Claim) v1alpha1.VIPSpec {
	spec := v1alpha1.VIPSpec{Address: a.String(), Pool: c.Pool, UsedBy: usersOf(c)}
	if r := c.ReservedFor; r != (cluster.Name{}) {
		spec.ReservedFor = &v1alpha1.ServiceReference{Namespace: r.Namespace, Name: r.Name}
	}
	if len(c.Users) > 1 {
		spec.Sharing = &v1alpha1.VIPSharing{Key: c.Terms.Key, Selector: c.Terms.Selector}
	}
	for _, u := range c.Users {
		s := v1alpha1.VIPService{ServiceReference: v1alpha1.ServiceReference{Namespace: u.Service.Namespace, Name: u.Service.Name}}
		if len(c.Users) > 1 {
			for _, p := range u.Ports {
				s.Ports = append(s.Ports, p.String())
			}
		}
		spec.Services = append(spec.Services, s)
	}
	return spec
}

// usersOf lists the Services of a claim so that the list fits a column.
func usersOf(c ipam.Claim) string {
	names := make([]cluster.Name, len(c.Users))
	for i, u := range c.Users {
		names[i] = u.Service
	}
	return short(stringsOf(names))
}

func stringsOf(names []cluster.Name) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = n.String()
	}
	return out
}

// short writes a list so that it fits a column.
func short(list []string) string {
	const most = 4
	if len(list) <= most {
		return strings.Join(list, ",")
	}
	return fmt.Sprintf("%s,+%d", strings.Join(list[:most], ","), len(list)-most)
}
