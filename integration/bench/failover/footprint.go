package failover

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/seamark-io/seamark/integration/bench"
	"github.com/seamark-io/seamark/integration/lab"
)

const (
	// footprintLab is the name of a lab of one node, whose agent is a speaker and nothing else.
	footprintLab = "footprnt"
	// footprintRSS and footprintCPU are targets, in MB and per cent of a processor.
	footprintRSS, footprintCPU = 60, 1
)

// footprintManifest: the addresses are announced on the LAN and to two routers.
const footprintManifest = `
apiVersion: v1
kind: Namespace
metadata: {name: bench}
---
apiVersion: seamark.io/v1alpha1
kind: IPPool
metadata: {name: bench}
spec:
  addresses: [10.79.64.0/18]
---
apiVersion: seamark.io/v1alpha1
kind: BGPPeer
metadata: {name: router}
spec: {peerAddress: 10.77.0.1, peerASN: 64512, localASN: 64513}
---
apiVersion: seamark.io/v1alpha1
kind: BGPPeer
metadata: {name: router2}
spec: {peerAddress: 10.77.0.2, peerASN: 64512, localASN: 64513}
`

// speakerOnly tells what an agent uses that is a speaker only, with many addresses and two routers, in a lab of its own.
func (w *world) speakerOnly(ctx context.Context) (err error) {
	if err := lab.Down(ctx, footprintLab, nil); err != nil { // what a killed run left
		return err
	}
	o := lab.DefaultOptions()
	o.Name, o.Source, o.Progress, o.Nodes, o.Router2 = footprintLab, w.source, w.options.Log, 1, true
	o.Proxy, o.DNS = lab.None, lab.None
	l, err := lab.Up(ctx, o)
	if l != nil {
		defer func() { err = errors.Join(err, lab.Down(context.WithoutCancel(ctx), footprintLab, w.options.Log)) }()
	}
	if err != nil {
		return err
	}
	defer l.Close()
	node, err := l.Host("node1")
	if err != nil {
		return err
	}
	if _, err := node.Exec(ctx, "ip", "addr", "add", "10.79.0.11/16", "dev", "eth0"); err != nil {
		return err
	}
	if err := l.Apply(ctx, []byte(footprintManifest)); err != nil {
		return err
	}
	n := w.options.Addresses
	w.log.printf("making %d Services in a lab of one node", n)
	if err := makeServices(ctx, l, n, "bench", map[discoveryv1.AddressType]string{discoveryv1.AddressTypeIPv4: "198.51.100.10"}); err != nil {
		return err
	}
	err = w.until(ctx, 10*time.Minute, fmt.Sprintf("%d addresses are announced to two routers and on the LAN", n), func(ctx context.Context) error {
		out, err := node.Exec(ctx, "curl", "-s", "http://127.0.0.1:9633/metrics")
		if err != nil {
			return err
		}
		m, err := bench.ParseMetrics(strings.NewReader(out.Stdout))
		if err != nil {
			return err
		}
		by := map[string]int{}
		for _, g := range m["seamark_speaker_announced_vips"].GetMetric() {
			by[g.GetLabel()[0].GetValue()] = int(g.GetGauge().GetValue())
		}
		if by["arp"] != n || by["bgp"] != n {
			return fmt.Errorf("announced are %v", by)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.account(ctx, l, fmt.Sprintf("an agent that is a speaker only, %d addresses, two routers", n), footprintRSS, footprintCPU)
}

// makeServices makes n Services with addresses of a pool, and the same endpoint of each family for all.
func makeServices(ctx context.Context, l *lab.Lab, n int, pool string, endpoints map[discoveryv1.AddressType]string) error {
	config, err := l.RESTConfig()
	if err != nil {
		return err
	}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(32)
	for i := range n {
		g.Go(func() error { return makeService(gctx, kube, serviceName(i), pool, endpoints) })
	}
	return g.Wait()
}

// serviceName is that of the i-th that makeServices makes.
func serviceName(i int) string { return fmt.Sprintf("s%05d", i) }

func makeService(ctx context.Context, kube kubernetes.Interface, name, pool string, endpoints map[discoveryv1.AddressType]string) error {
	svc := serviceOf(name, pool)
	svc.Spec.Selector = nil
	if len(endpoints) == 1 {
		single := corev1.IPFamilyPolicySingleStack
		svc.Spec.IPFamilyPolicy = &single
	}
	_, err := kube.CoreV1().Services(namespace).Create(ctx, svc, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create a Service: %w", err)
	}
	for family, endpoint := range endpoints {
		_, err := kube.DiscoveryV1().EndpointSlices(namespace).Create(ctx, sliceOf(name, family, endpoint), metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create an EndpointSlice: %w", err)
		}
	}
	return nil
}

func sliceOf(service string, family discoveryv1.AddressType, endpoint string) *discoveryv1.EndpointSlice {
	port, protocol, ready := int32(echoPort), corev1.ProtocolUDP, true
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: service + "-" + strings.ToLower(string(family)), Namespace: namespace, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: family,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{endpoint}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		Ports:       []discoveryv1.EndpointPort{{Port: &port, Protocol: &protocol}},
	}
}
