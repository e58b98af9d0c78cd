package failover

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"

	"github.com/seamark-io/seamark/integration/bench"
	"github.com/seamark-io/seamark/integration/lab"
	"github.com/seamark-io/seamark/integration/probe"
)

const (
	namespace = "bench"
	// echoPort is the port of Services and pods.
	echoPort = 8081
	// home is the node of the pods, which no fault hits.
	home  = "node1"
	agent = "seamark-node"
)

// world is what is measured in.
type world struct {
	// source is the module's folder.
	source  string
	lab     *lab.Lab
	kube    kubernetes.Interface
	options Options
	log     *progress
	report  *bench.Report
	// one are the addresses, IPv4 and IPv6, of a Service that the nodes but home announce.
	one []netip.Addr
}

// manifest: the pool is announced by ARP and NDP from the nodes but home, and by BGP with BFD from all; beyond is announced by BGP
// only, and is not of the LAN.
const manifest = `
apiVersion: v1
kind: Namespace
metadata: {name: bench}
---
apiVersion: seamark.io/v1alpha1
kind: IPPool
metadata: {name: bench}
spec:
  addresses: [10.77.0.200-10.77.0.250, "fd77::200-fd77::2ff"]
  announce:
    arp:
      nodeSelector: {matchExpressions: [{key: kubernetes.io/hostname, operator: NotIn, values: [node1]}]}
    bgp: {}
---
apiVersion: seamark.io/v1alpha1
kind: IPPool
metadata: {name: beyond}
spec:
  addresses: [203.0.113.0/24]
  autoAssign: false
  announce: {bgp: {}}
---
apiVersion: seamark.io/v1alpha1
kind: IPPool
metadata: {name: many}
spec:
  addresses: [10.79.4.0/22, "fd77::1000-fd77::1fff"]
  autoAssign: false
  announce:
    arp:
      nodeSelector: {matchExpressions: [{key: kubernetes.io/hostname, operator: NotIn, values: [node1]}]}
---
apiVersion: seamark.io/v1alpha1
kind: BGPPeer
metadata: {name: router}
spec:
  peerAddress: 10.77.0.1
  peerASN: 64512
  localASN: 64513
  bfd: {}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo, namespace: bench}
spec:
  replicas: 2
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      nodeName: node1
      terminationGracePeriodSeconds: 0
      containers:
      - name: echo
        image: registry.k8s.io/e2e-test-images/agnhost:2.63.0
        imagePullPolicy: Never
        # It writes a line about each datagram: through the container runtime that costs more than the answer.
        command: [sh, -c, exec /agnhost netexec --udp-port=8081 --http-port=8080 >/dev/null 2>&1]
`

// furnish makes what all measurements use.
func (w *world) furnish(ctx context.Context) error {
	config, err := w.lab.RESTConfig()
	if err != nil {
		return err
	}
	if w.kube, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	if err := w.lab.Apply(ctx, []byte(manifest)); err != nil {
		return err
	}
	if w.one, err = w.service(ctx, "one", "bench"); err != nil {
		return err
	}
	for _, vip := range w.one {
		if err := w.until(ctx, time.Minute, fmt.Sprintf("%s answers", vip), func(ctx context.Context) error { return w.answers(ctx, "client", vip) }); err != nil {
			return err
		}
	}
	return nil
}

// service makes a Service in front of the echo servers and returns its addresses.
func (w *world) service(ctx context.Context, name, pool string) ([]netip.Addr, error) {
	if _, err := w.kube.CoreV1().Services(namespace).Create(ctx, serviceOf(name, pool), metav1.CreateOptions{}); err != nil {
		return nil, fmt.Errorf("create a Service: %w", err)
	}
	return w.addresses(ctx, name)
}

// addresses waits until a Service has an address of each family, and returns them, IPv4 first.
func (w *world) addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	var out []netip.Addr
	err := w.until(ctx, time.Minute, "Service "+name+" has its addresses", func(ctx context.Context) error {
		svc, err := w.kube.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		out = nil
		for _, in := range svc.Status.LoadBalancer.Ingress {
			a, err := netip.ParseAddr(in.IP)
			if err != nil {
				return err
			}
			out = append(out, a)
		}
		if len(out) < 2 {
			return fmt.Errorf("they are %v", out)
		}
		slices.SortFunc(out, netip.Addr.Compare)
		return nil
	})
	return out, err
}

func serviceOf(name, pool string) *corev1.Service {
	no, dual := false, corev1.IPFamilyPolicyRequireDualStack
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Annotations: map[string]string{"seamark.io/pool": pool}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, AllocateLoadBalancerNodePorts: &no, IPFamilyPolicy: &dual,
			Selector: map[string]string{"app": "echo"},
			Ports:    []corev1.ServicePort{{Port: echoPort, Protocol: corev1.ProtocolUDP}},
		},
	}
}

// stream returns a stream of datagrams from a host to an address.
func (w *world) stream(host string, vip netip.Addr, every time.Duration) probe.Stream {
	return probe.Stream{From: w.namespaceOf(host), To: netip.AddrPortFrom(vip, echoPort), Every: every, Say: "echo "}
}

func (w *world) namespaceOf(host string) probe.Namespace {
	return probe.Namespace(labName + "-" + host)
}

// answers asks once.
func (w *world) answers(ctx context.Context, host string, vip netip.Addr) error {
	start := time.Now()
	f, err := w.stream(host, vip, 20*time.Millisecond).Start(ctx)
	if err != nil {
		return err
	}
	time.Sleep(100 * time.Millisecond)
	if r := f.End(); r.Lost() == len(r) {
		return fmt.Errorf("nothing came back in %s", time.Since(start).Round(time.Millisecond))
	}
	return nil
}

// owner returns the node to which the client sends what is for an address.
func (w *world) owner(ctx context.Context, vip netip.Addr) (string, error) {
	client, err := w.lab.Host("client")
	if err != nil {
		return "", err
	}
	out, err := client.Exec(ctx, "ip", "neigh", "show", vip.String())
	if err != nil {
		return "", err
	}
	for _, n := range w.lab.Plan().Nodes() {
		if strings.Contains(out.Stdout, n.Links[0].MAC) {
			return n.Name, nil
		}
	}
	return "", fmt.Errorf("the client's neighbour entry of %s is %q", vip, strings.TrimSpace(out.Stdout))
}

// until calls f until it returns nil, for no longer than limit.
func (w *world) until(ctx context.Context, limit time.Duration, what string, f func(ctx context.Context) error) error {
	for end := time.Now().Add(limit); ; {
		err := f(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case time.Now().After(end):
			return fmt.Errorf("waited %s until %s: %w", limit, what, err)
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// flows are streams that run at once.
type flows []*probe.Flow

// start starts a stream to each address.
func (w *world) start(ctx context.Context, host string, every time.Duration, vips ...netip.Addr) (flows, error) {
	var out flows
	for _, vip := range vips {
		f, err := w.stream(host, vip, every).Start(ctx)
		if err != nil {
			out.end()
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func (f flows) end() {
	for _, x := range f {
		x.End()
	}
}

// steady waits until all have been answered for a while without a gap.
func (f flows) steady(ctx context.Context, w *world, since time.Time) error {
	const quiet = time.Second
	return w.until(ctx, time.Minute, "everything is answered", func(context.Context) error {
		for _, x := range f {
			r := x.Since(time.Now().Add(-quiet - time.Second))
			if len(r) == 0 || x.Silent() > 300*time.Millisecond || time.Since(since) < quiet+time.Second {
				return fmt.Errorf("no answer for %s", x.Silent().Round(time.Millisecond))
			}
			if n := r.Lost(); n > 0 {
				return fmt.Errorf("%d of the last %d were lost", n, len(r))
			}
		}
		return nil
	})
}

// worst returns the longest gap of any of the flows since a time, and how many datagrams were lost.
func (f flows) worst(since time.Time) (gap time.Duration, lost int) {
	for _, x := range f {
		r := x.Since(since)
		gap, lost = max(gap, r.Longest().Length()), lost+r.Lost()
	}
	return gap, lost
}

// ipv4Of returns the IPv4 address in a Service's status.
func ipv4Of(o runtime.Object) (netip.Addr, bool) {
	svc, ok := o.(*corev1.Service)
	if !ok {
		return netip.Addr{}, false
	}
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil && a.Is4() {
			return a, true
		}
	}
	return netip.Addr{}, false
}
