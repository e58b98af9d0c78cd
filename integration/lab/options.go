package lab

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"
)

// Families says which IP families a lab has.
type Families string

// The families a lab can have. In a dual-stack lab IPv4 comes first.
const (
	DualStack Families = "dual"
	IPv4Only  Families = "ipv4"
	IPv6Only  Families = "ipv6"
)

// Provider names the software that plays a part in the cluster.
type Provider string

// Who can play the parts Proxy, DNS and LB of [Options].
const (
	Seamark   Provider = "seamark"
	KubeProxy Provider = "kube-proxy"
	CoreDNS   Provider = "coredns"
	None      Provider = "none"
)

// Options say what a lab consists of. [DefaultOptions] returns a usable set.
type Options struct {
	// Name tells labs apart on one machine: a lower-case letter, then up to
	// seven letters or digits. Network namespaces are called NAME-HOST.
	Name string
	// Nodes is the number of nodes, 1 to 50.
	Nodes    int
	Families Families
	// Proxy is Seamark, KubeProxy or None.
	Proxy Provider
	// DNS is Seamark, CoreDNS or None.
	DNS Provider
	// LB is Seamark or None.
	LB Provider
	// Zones is the number of zones over which the nodes are spread in turn,
	// as topology.kubernetes.io/zone=zone-a, zone-b, …; 0 sets no label.
	Zones int
	// Router2 adds a second router beside the first.
	Router2 bool
	// Segment2 is the number of nodes, counted from the last, that stand on
	// a second segment which the routers join to the LAN.
	Segment2 int
	// Images are the names of further images of [artifacts.Cache] that the nodes get: agnhost, e2e.
	Images []string
	// NodeGrace is the time after which the cluster calls a silent node
	// NotReady; the kubelets report often enough for it. 0 keeps Kubernetes'
	// default (50 s); the least is 4 s.
	NodeGrace time.Duration
	// HeartbeatInterval is the agents' --heartbeat-interval; 0: their default.
	HeartbeatInterval time.Duration
	// Source is a checkout of Seamark, or a folder in one: manifests/, bin/images/
	// and the recipes of programs and images are taken from there. Empty means the
	// one around the working directory. [Lab.Options] has its root.
	Source string
	// Progress receives one line per step; nil discards them.
	Progress io.Writer `json:"-"`
}

// DefaultOptions returns the options of a three-node dual-stack lab in which
// Seamark plays all its parts.
func DefaultOptions() Options {
	return Options{Name: "sm", Nodes: 3, Families: DualStack, Proxy: Seamark, DNS: Seamark, LB: Seamark}
}

const (
	maxNodes     = 50
	minNodeGrace = 4 * time.Second
)

var validName = regexp.MustCompile(`^[a-z][a-z0-9]{0,7}$`)

// Validate reports everything that is wrong with o, in words that say what to
// change.
func (o Options) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	errs = append(errs, validateName(o.Name))
	check(o.Nodes >= 1 && o.Nodes <= maxNodes, "nodes is %d: give 1 to %d", o.Nodes, maxNodes)
	check(o.Families == DualStack || o.Families == IPv4Only || o.Families == IPv6Only, "families is %q: give dual, ipv4 or ipv6", o.Families)
	check(o.Proxy == Seamark || o.Proxy == KubeProxy || o.Proxy == None, "proxy is %q: give seamark, kube-proxy or none", o.Proxy)
	check(o.DNS == Seamark || o.DNS == CoreDNS || o.DNS == None, "dns is %q: give seamark, coredns or none", o.DNS)
	check(o.LB == Seamark || o.LB == None, "lb is %q: give seamark or none", o.LB)
	check(o.DNS != CoreDNS || o.Proxy != None, "dns is coredns, whose pods reach the API through a Service: give a proxy other than none")
	check(o.Zones >= 0 && o.Zones <= 26, "zones is %d: give 0 to 26", o.Zones)
	check(o.Segment2 >= 0 && o.Segment2 <= o.Nodes, "segment2 is %d: it counts nodes, give 0 to %d", o.Segment2, o.Nodes)
	check(o.NodeGrace == 0 || o.NodeGrace >= minNodeGrace, "node grace is %s: give at least %s, or 0 for Kubernetes' default", o.NodeGrace, minNodeGrace)
	return errors.Join(errs...)
}

func validateName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("name is %q: give a lower-case letter and up to seven more letters or digits", name)
	}
	return nil
}

// needsSeamark reports whether Seamark plays any part.
func (o Options) needsSeamark() bool {
	return o.Proxy == Seamark || o.DNS == Seamark || o.LB == Seamark
}

// Needs returns the programs and images of [artifacts.Cache] that [Up] takes for
// a lab with these options, as Prepare wants them.
func Needs(o Options) (programs, images []string) {
	programs = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl", relayProgram}
	if o.Proxy == KubeProxy {
		programs = append(programs, "kube-proxy")
	}
	images = []string{pauseImage}
	if o.DNS == CoreDNS {
		images = append(images, "coredns")
	}
	return programs, append(images, o.Images...)
}

// pauseImage is the image that holds the namespaces of every pod.
const pauseImage = "pause"
