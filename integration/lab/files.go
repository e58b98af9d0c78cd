package lab

import (
	"bytes"
	"embed"
	"fmt"
	"net/netip"
	"strings"
	"text/template"
	"time"

	"github.com/seamark-io/seamark/integration/artifacts"
)

//go:embed templates
var templateFiles embed.FS

// facts are what the templates of configuration files are filled with.
type facts struct {
	Options Options
	Plan    Plan
	Host    HostPlan
	Timing  *nodeTiming

	PauseImage, CoreDNSImage string
	PodCgroup                string
	Manifests                string // path of the checkout's, from where it is used

	RouterID           netip.Addr
	RouterASN, NodeASN uint32
	// As BIRD writes them.
	VIPs4, VIPs6, VIPRange4, VIPRange6 string
}

func newFacts(o Options, p Plan, h HostPlan) facts {
	return facts{
		Options: o, Plan: p, Host: h, Timing: timing(o.NodeGrace),
		PauseImage: artifacts.PauseRef, CoreDNSImage: artifacts.CoreDNSRef,
		PodCgroup: podCgroup(o.Name, h.Name),
		RouterID:  routerID(h), RouterASN: RouterASN, NodeASN: NodeASN,
		VIPs4: VIPPrefix4, VIPs6: VIPPrefix6,
		VIPRange4: strings.Replace(VIPRange4, "-", "..", 1), VIPRange6: strings.Replace(VIPRange6, "-", "..", 1),
	}
}

// nodeTiming is how often a kubelet reports.
type nodeTiming struct {
	Update       time.Duration
	LeaseSeconds int
}

// timing returns how often kubelets report for a silent node to be noticed
// after grace, and nil for Kubernetes' defaults. The proportions are those of
// the defaults (10 s and 40 s of 50 s); a kubelet renews its lease after a
// quarter of the lease's duration.
func timing(grace time.Duration) *nodeTiming {
	if grace == 0 {
		return nil
	}
	return &nodeTiming{
		Update:       max(time.Second, (grace / 5).Truncate(100*time.Millisecond)),
		LeaseSeconds: max(1, int((grace * 4 / 5).Seconds())),
	}
}

// podCgroup is the cgroup, in every hierarchy, below which the container
// runtime makes those of a node's containers.
func podCgroup(lab, host string) string {
	return "/" + cgroupParent + "/" + lab + "/" + host + "/pods"
}

// routerID is the host's first IPv4 address, or one made of its number if it
// has none: an identifier is needed in any case (RFC 6286).
func routerID(h HostPlan) netip.Addr {
	addrs := h.Addrs()
	if len(addrs) == 0 || addrs[0].Is4() {
		return append(addrs, netip.Addr{})[0]
	}
	bytes := addrs[0].As16()
	return netip.AddrFrom4([4]byte{10, 77, 0, bytes[15]})
}

// configFiles returns the host's configuration files, by path from its root.
func configFiles(o Options, p Plan, h HostPlan) (map[string][]byte, error) {
	names := map[string]string{"/etc/hosts": "hosts", "/etc/resolv.conf": "resolv.conf"}
	switch h.Role {
	case RoleNode:
		names["/etc/containerd/config.toml"] = "containerd.toml"
		names["/etc/cni/net.d/10-pods.conflist"] = "cni.conflist"
		names[kubeDir+"/kubelet.yaml"] = "kubelet.yaml"
		names[kubeDir+"/kube-proxy.yaml"] = "kube-proxy.yaml"
	case RoleRouter:
		names["/etc/bird/bird.conf"] = "bird.conf"
	case RoleRemote:
		names["/etc/dnsmasq.conf"] = "dnsmasq.conf"
	}
	files := make(map[string][]byte, len(names))
	for path, name := range names {
		text, err := render(name, newFacts(o, p, h))
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w", path, h.Name, err)
		}
		files[path] = text
	}
	return files, nil
}

func render(name string, f facts) ([]byte, error) {
	file := name + ".tmpl"
	t, err := template.New(file).Funcs(template.FuncMap{"join": join[netip.Prefix]}).ParseFS(templateFiles, "templates/"+file)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := t.Execute(&text, f); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}
