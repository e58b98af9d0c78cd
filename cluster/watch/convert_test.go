package watch

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
)

func TestService(t *testing.T) {
	proxyMode := corev1.LoadBalancerIPModeProxy
	for _, tt := range []struct {
		name string
		in   corev1.ServiceSpec
		lb   []corev1.LoadBalancerIngress
		want cluster.Service
	}{
		{
			name: "headless",
			in:   corev1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}},
			want: cluster.Service{Headless: true},
		},
		{
			name: "a Service that became ExternalName may keep a cluster IP: it has none",
			in:   corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "db.example.com.", ClusterIPs: []string{"10.0.0.1"}},
			want: cluster.Service{Type: cluster.ExternalName, ExternalName: "db.example.com"},
		},
		{
			name: "an external name left behind by a change of type",
			in:   corev1.ServiceSpec{ExternalName: "db.example.com"},
			want: cluster.Service{},
		},
		{
			name: "load balancer: only addresses in VIP mode count, host names do not",
			in:   corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerSourceRanges: []string{" 10.1.2.3/8 ", "nonsense"}},
			lb:   []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}, {IP: "192.0.2.2", IPMode: &proxyMode}, {Hostname: "a.example.com"}},
			want: cluster.Service{
				Type:         cluster.LoadBalancer,
				IngressIPs:   []netip.Addr{netip.MustParseAddr("192.0.2.1")},
				SourceRanges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
			},
		},
		{
			name: "affinity without a timeout has the API's default",
			in:   corev1.ServiceSpec{SessionAffinity: corev1.ServiceAffinityClientIP},
			want: cluster.Service{Affinity: 3 * time.Hour},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "svc"}, Spec: tt.in}
			s.Status.LoadBalancer.Ingress = tt.lb
			tt.want.Name = cluster.Name{Namespace: "ns", Name: "svc"}
			if got := Service(s); !reflect.DeepEqual(*got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", *got, tt.want)
			}
		})
	}
}

func TestSliceResolvesUnsetConditionsAsTheAPIDefinesThem(t *testing.T) {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "ns", Name: "svc-1", Labels: map[string]string{discoveryv1.LabelServiceName: "svc"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](8080)}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.244.1.1", "10.244.1.2"}},
			{Addresses: []string{"10.244.1.3"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(true), Terminating: ptr.To(true)}},
			{Addresses: []string{"not an address"}},
		},
	}
	got := Slice(s)
	want := []cluster.Endpoint{
		{Addr: netip.MustParseAddr("10.244.1.1"), Ready: true, Serving: true},
		{Addr: netip.MustParseAddr("10.244.1.3"), Serving: true, Terminating: true},
	}
	if !reflect.DeepEqual(got.Endpoints, want) {
		t.Errorf("got  %+v\nwant %+v", got.Endpoints, want)
	}
	if p := got.Ports[0]; p != (cluster.SlicePort{Name: "http", Protocol: cluster.TCP, Port: 8080}) {
		t.Errorf("port %+v", p)
	}
	s.AddressType = discoveryv1.AddressTypeFQDN
	if Slice(s) != nil {
		t.Error("a slice of host names is of no use to a proxy")
	}
}

func TestNodeExcluded(t *testing.T) {
	for value, want := range map[string]bool{"": true, "true": true, "false": false, "False": false, "no": true} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{corev1.LabelNodeExcludeBalancers: value}}}
		if got := Node(n).Excluded; got != want {
			t.Errorf("label value %q: excluded %v, want %v", value, got, want)
		}
	}
	tainted := &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: corev1.TaintNodeOutOfService}}}}
	if !Node(tainted).Excluded {
		t.Error("a node that is out of service may not announce")
	}
}

func TestNodeLeaving(t *testing.T) {
	for name, c := range map[string]struct {
		node *corev1.Node
		want bool
	}{
		"stays":         {&corev1.Node{}, false},
		"other taint":   {&corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "DeletionCandidateOfClusterAutoscaler"}}}}, false},
		"scaled down":   {&corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler"}}}}, true},
		"being deleted": {&corev1.Node{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{}}}, true},
	} {
		if got := Node(c.node).Leaving; got != c.want {
			t.Errorf("%s: leaving %v", name, got)
		}
	}
}

func TestPoolWithoutAnnounceIsAnnouncedBothWays(t *testing.T) {
	p, err := Pool(&v1alpha1.IPPool{Spec: v1alpha1.IPPoolSpec{Addresses: []string{"192.0.2.0/28"}}})
	if err != nil {
		t.Fatal(err)
	}
	if p.ARP == nil || p.BGP == nil || !p.AutoAssign {
		t.Errorf("got %+v", p)
	}
	p, err = Pool(&v1alpha1.IPPool{Spec: v1alpha1.IPPoolSpec{
		Addresses: []string{"192.0.2.0/28"},
		Announce:  &v1alpha1.Announce{BGP: &v1alpha1.BGPAnnounce{BGPAdvertisement: v1alpha1.BGPAdvertisement{Communities: []string{"64512:100"}}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if p.ARP != nil || p.BGP.Advertisements[0].Attributes.Communities[0] != 64512<<16|100 {
		t.Errorf("got %+v", p)
	}
}

// What was given out is announced, whatever is wrong with its pool now.
func TestPoolWithMistakes(t *testing.T) {
	p, err := Pool(&v1alpha1.IPPool{Spec: v1alpha1.IPPoolSpec{
		Addresses: []string{"192.0.2.9-192.0.2.1"},
		Announce:  &v1alpha1.Announce{BGP: &v1alpha1.BGPAnnounce{BGPAdvertisement: v1alpha1.BGPAdvertisement{Communities: []string{"64512:100", "70000:1"}}}},
	}})
	if err == nil || !strings.Contains(err.Error(), "70000:1") {
		t.Errorf("error %v", err)
	}
	if len(p.Ranges) > 0 || p.ARP != nil || len(p.BGP.Advertisements[0].Attributes.Communities) != 1 {
		t.Errorf("got %+v", p)
	}
}

// Where Services share an address each has the ports that are written there; a list that is empty is none.
func TestVIPPorts(t *testing.T) {
	service := func(name string, ports ...string) v1alpha1.VIPService {
		return v1alpha1.VIPService{ServiceReference: v1alpha1.ServiceReference{Namespace: "shop", Name: name}, Ports: ports}
	}
	web, dns := cluster.Name{Namespace: "shop", Name: "web"}, cluster.Name{Namespace: "shop", Name: "dns"}
	http := cluster.Port{Protocol: cluster.TCP, Number: 80}
	v := VIP(&v1alpha1.VIP{Spec: v1alpha1.VIPSpec{Address: "192.0.2.1", Services: []v1alpha1.VIPService{service("web", "80/TCP"), service("dns")}}})
	if !v.Serves(web, http) || v.Serves(web, cluster.Port{Protocol: cluster.UDP, Number: 80}) || v.Serves(dns, http) {
		t.Errorf("shared: %+v", v)
	}
	v = VIP(&v1alpha1.VIP{Spec: v1alpha1.VIPSpec{Address: "192.0.2.1", Services: []v1alpha1.VIPService{service("web")}}})
	if !v.Serves(web, http) {
		t.Errorf("alone: %+v", v)
	}
}

func TestSelectorIsTheSameValueEachTime(t *testing.T) {
	in := &metav1.LabelSelector{MatchLabels: map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"}}
	for range 20 {
		if !reflect.DeepEqual(Selector(in), Selector(in)) {
			t.Fatal("a selector that differs from itself would make every event a change")
		}
	}
}

// A selector that cannot be read matches nothing and is told: to take an unknown operator for In would select the nodes that
// somebody meant to leave out.
func TestWrongSelectors(t *testing.T) {
	wrong := func(operator metav1.LabelSelectorOperator, values ...string) metav1.LabelSelector {
		return metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "rack", Operator: operator, Values: values}}}
	}
	for _, s := range []metav1.LabelSelector{
		wrong("NotEquals", "a"), wrong("In"), wrong("Exists", "a"), {MatchLabels: map[string]string{"no key": "a"}}, {MatchLabels: map[string]string{"rack": "not a value!"}},
	} {
		p, err := Pool(&v1alpha1.IPPool{Spec: v1alpha1.IPPoolSpec{
			Addresses: []string{"192.0.2.0/28"}, NamespaceSelector: &s, ServiceSelector: &s,
			Announce: &v1alpha1.Announce{
				ARP: &v1alpha1.ARPAnnounce{NodeSelector: &s, NodePreferences: []v1alpha1.NodePreference{{Weight: 5, NodeSelector: s}}},
				BGP: &v1alpha1.BGPAnnounce{NodeSelector: &s},
			},
		}})
		for _, field := range []string{"namespaceSelector", "serviceSelector", "announce.arp.nodeSelector", "announce.arp.nodePreferences[0].nodeSelector", "announce.bgp.nodeSelector"} {
			if err == nil || !strings.Contains(err.Error(), field+" matches nothing: ") {
				t.Errorf("%v: %s is not in the error: %v", s, field, err)
			}
		}
		labels := map[string]string{"rack": "a", "no key": "a"}
		for _, s := range []cluster.Selector{p.NamespaceSelector, p.ServiceSelector, p.ARP.Nodes, p.BGP.Nodes} {
			if s.Matches(labels) || s.Matches(nil) {
				t.Errorf("%v matches", s)
			}
		}
		if got := p.ARP.Preference(labels); got != 0 {
			t.Errorf("preference %d", got)
		}
	}
}

func TestPreferences(t *testing.T) {
	match := func(k, v string) metav1.LabelSelector {
		return metav1.LabelSelector{MatchLabels: map[string]string{k: v}}
	}
	p, err := Pool(&v1alpha1.IPPool{Spec: v1alpha1.IPPoolSpec{Announce: &v1alpha1.Announce{ARP: &v1alpha1.ARPAnnounce{
		PartitionPolicy: v1alpha1.PartitionServe,
		NodePreferences: []v1alpha1.NodePreference{{Weight: 10, NodeSelector: match("rack", "a")}, {Weight: 1, NodeSelector: match("fast", "yes")}},
	}}}})
	if err != nil || !p.ARP.Serve {
		t.Fatalf("%+v, %v", p.ARP, err)
	}
	for want, labels := range map[int32]map[string]string{0: {"rack": "b"}, 10: {"rack": "a"}, 1: {"fast": "yes"}, 11: {"rack": "a", "fast": "yes"}} {
		if got := p.ARP.Preference(labels); got != want {
			t.Errorf("%v: %d, want %d", labels, got, want)
		}
	}
}
