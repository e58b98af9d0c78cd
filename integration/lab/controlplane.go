package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// apiServerNames returns the names by which the API server is known.
func apiServerNames() []string {
	return []string{"localhost", "cp", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
}

// apiServerAddrs returns the addresses of the API server: of its host, of the
// Service "kubernetes" (the first of the range), and of the loopback relay.
func (p Plan) apiServerAddrs() []netip.Addr {
	addrs := append([]netip.Addr{netip.MustParseAddr("127.0.0.1")}, p.Host("cp").Addrs()...)
	for _, services := range p.ServiceCIDRs {
		addrs = append(addrs, services.Masked().Addr().Next())
	}
	return addrs
}

const etcdURL = "http://127.0.0.1:2379" // in the namespace of cp

func etcd() daemon {
	return daemon{"etcd", []string{
		"etcd", "--data-dir=" + etcdData, "--logger=zap", "--log-level=warn",
		"--listen-client-urls=" + etcdURL, "--advertise-client-urls=" + etcdURL,
		"--listen-peer-urls=http://127.0.0.1:2380",
		// What it holds is worth as much as the lab.
		"--unsafe-no-fsync",
	}}
}

func apiServer(p Plan) daemon {
	return daemon{"kube-apiserver", []string{
		"kube-apiserver",
		"--etcd-servers=" + etcdURL,
		fmt.Sprintf("--secure-port=%d", p.API.Port()),
		"--advertise-address=" + p.API.Addr().String(),
		"--tls-cert-file=" + pkiDir + "/apiserver.crt",
		"--tls-private-key-file=" + pkiDir + "/apiserver.key",
		"--client-ca-file=" + pkiDir + "/ca.crt",
		// Every cluster has these; servers that delegate authentication ask for them.
		"--requestheader-client-ca-file=" + pkiDir + "/front-proxy-ca.crt",
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--kubelet-certificate-authority=" + pkiDir + "/ca.crt",
		"--kubelet-client-certificate=" + pkiDir + "/apiserver-kubelet-client.crt",
		"--kubelet-client-key=" + pkiDir + "/apiserver-kubelet-client.key",
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-key-file=" + pkiDir + "/sa.pub",
		"--service-account-signing-key-file=" + pkiDir + "/sa.key",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-cluster-ip-range=" + join(p.ServiceCIDRs),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged",
		"--profiling=false",
	}}
}

func controllerManager(o Options, p Plan) daemon {
	d := daemon{"kube-controller-manager", []string{
		"kube-controller-manager",
		"--kubeconfig=" + kubeDir + "/controller-manager.conf",
		"--service-account-private-key-file=" + pkiDir + "/sa.key",
		"--root-ca-file=" + pkiDir + "/ca.crt",
		"--cluster-signing-cert-file=" + pkiDir + "/ca.crt",
		"--cluster-signing-key-file=" + pkiDir + "/ca.key",
		"--use-service-account-credentials",
		"--cluster-cidr=" + join(p.PodCIDRs),
		"--service-cluster-ip-range=" + join(p.ServiceCIDRs),
		"--allocate-node-cidrs=false", // the lab gives them out, see createNodes
		"--leader-elect=false",
		"--bind-address=127.0.0.1",
	}}
	if o.NodeGrace > 0 {
		d.argv = append(d.argv,
			"--node-monitor-grace-period="+o.NodeGrace.String(),
			"--node-monitor-period="+max(500*time.Millisecond, o.NodeGrace/10).String())
	}
	return d
}

func scheduler() daemon {
	return daemon{"kube-scheduler", []string{
		"kube-scheduler",
		"--kubeconfig=" + kubeDir + "/scheduler.conf",
		"--leader-elect=false",
		"--bind-address=127.0.0.1",
	}}
}

// startControlPlane starts etcd and the API server and, when that answers, the
// controllers.
func (l *Lab) startControlPlane(ctx context.Context) error {
	cp := l.hosts["cp"]
	for _, d := range []daemon{etcd(), apiServer(l.plan)} {
		if err := cp.start(d); err != nil {
			return err
		}
	}
	client, err := l.client()
	if err != nil {
		return err
	}
	err = l.await(ctx, wait{
		what:  "the API server",
		limit: time.Minute,
		watch: []watched{{cp, "etcd"}, {cp, "kube-apiserver"}},
		check: func(ctx context.Context) (bool, string) {
			answer, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
			return err == nil, unready(answer, err)
		},
	})
	if err != nil {
		return err
	}
	for _, d := range []daemon{controllerManager(l.opts, l.plan), scheduler()} {
		if err := cp.start(d); err != nil {
			return err
		}
	}
	return nil
}

// unready returns what is missing according to the answer of /readyz.
func unready(answer []byte, err error) string {
	var missing []string
	for line := range strings.Lines(string(answer)) {
		if check, ok := strings.CutPrefix(line, "[-]"); ok {
			check, _, _ = strings.Cut(check, " ")
			missing = append(missing, check)
		}
	}
	if len(missing) == 0 {
		return fmt.Sprint(err)
	}
	return "not ready: " + strings.Join(missing, " ")
}

// createNodes registers the nodes before their kubelets do, because only then
// can they be given the subnets of their pods, which follow from the plan.
func (l *Lab) createNodes(ctx context.Context) error {
	client, err := l.client()
	if err != nil {
		return err
	}
	for _, h := range l.plan.Nodes() {
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: h.Name, Labels: nodeLabels(h)},
			Spec:       corev1.NodeSpec{PodCIDR: h.Pods[0].String()},
		}
		for _, pods := range h.Pods {
			node.Spec.PodCIDRs = append(node.Spec.PodCIDRs, pods.String())
		}
		if _, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create node %s: %w", h.Name, err)
		}
	}
	return nil
}

func nodeLabels(h HostPlan) map[string]string {
	labels := map[string]string{corev1.LabelHostname: h.Name}
	if h.Zone != "" {
		labels[corev1.LabelTopologyRegion] = "lab"
		labels[corev1.LabelTopologyZone] = h.Zone
	}
	return labels
}
