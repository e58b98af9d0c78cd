package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker"
	"github.com/seamark-io/seamark/speaker/liveness"
)

// options are the flags as a person writes them.
type options struct {
	nodeName   string
	namespace  string
	kubeconfig string

	speaker, proxy, dns bool

	clusterDomain string
	clusterCIDRs  []string
	serviceCIDRs  []string
	nodePorts     []string
	dnsService    string
	dnsUpstreams  []string
	dnsListen     []string
	resolvConf    string

	heartbeatInterval   time.Duration
	heartbeatMultiplier int

	leaveTime   time.Duration
	drainOnStop string

	bindAddress    string
	profiling      bool
	healthzAddress string
	sysctlRoot     string
	logLevel       string
	logFormat      string
}

// config is what the flags mean.
type config struct {
	node      string
	namespace string
	rest      *rest.Config

	speaker, proxy, dns bool

	clusterDomain string
	clusterCIDRs  []netip.Prefix
	serviceCIDRs  []netip.Prefix
	nodePorts     []netip.Prefix
	dnsService    cluster.Name
	dnsUpstreams  []netip.AddrPort
	dnsListen     []netip.AddrPort
	resolvConf    string

	heartbeatInterval   time.Duration
	heartbeatMultiplier int

	leaveTime   time.Duration
	drainOnStop speaker.DrainPolicy

	bindAddress    string
	profiling      bool
	healthzAddress netip.AddrPort
	sysctlRoot     string
	log            *slog.Logger
}

// maxLeaveTime leaves the rest of the pod's terminationGracePeriodSeconds for what else has to end.
const maxLeaveTime = 10 * time.Second

func defaultOptions() *options {
	hostname, _ := os.Hostname() // validated as --node-name
	return &options{
		nodeName:      envOr("NODE_NAME", hostname),
		namespace:     envOr("POD_NAMESPACE", "seamark-system"),
		speaker:       true,
		proxy:         true,
		dns:           true,
		clusterDomain: "cluster.local",
		dnsService:    "kube-system/kube-dns",
		resolvConf:    "/etc/resolv.conf",

		heartbeatInterval: liveness.DefaultInterval, heartbeatMultiplier: liveness.DefaultMultiplier,

		leaveTime:      speaker.DefaultLeaveTime,
		drainOnStop:    string(speaker.DrainAuto),
		bindAddress:    "127.0.0.1:9633",
		healthzAddress: "[::]:10256",
		sysctlRoot:     "/proc/sys",
		logLevel:       "info",
		logFormat:      "text",
	}
}

func envOr(name, unset string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return unset
}

func (o *options) addFlags(f *pflag.FlagSet) {
	f.SortFlags = false
	f.BoolVar(&o.speaker, "speaker", o.speaker, "announce VIPs")
	f.BoolVar(&o.proxy, "proxy", o.proxy, "proxy Services; false where kube-proxy runs")
	f.BoolVar(&o.dns, "dns", o.dns, "answer the cluster's DNS; false where another DNS should")

	f.StringVar(&o.nodeName, "node-name", o.nodeName, "name of this node's Node object (default: $NODE_NAME, else the host name)")
	f.StringVar(&o.namespace, "namespace", o.namespace, "Seamark's namespace, where the Secrets of heartbeats and BGP sessions are (default: $POD_NAMESPACE)")
	f.StringVar(&o.kubeconfig, "kubeconfig", o.kubeconfig, "how to reach the API server; empty: as a pod does")

	f.StringSliceVar(&o.clusterCIDRs, "cluster-cidr", o.clusterCIDRs, "pods' addresses, where Nodes have no spec.podCIDRs: tells traffic of this node's pods from traffic from outside")
	f.StringSliceVar(&o.serviceCIDRs, "service-cidr", o.serviceCIDRs, "cluster IPs: with --cluster-cidr, the addresses whose names nobody but this cluster knows")
	f.StringSliceVar(&o.nodePorts, "nodeport-addresses", o.nodePorts, "prefixes of the node's addresses that serve node ports; for a family without one, and if it is \"primary\": the node's primary internal address")
	f.StringVar(&o.clusterDomain, "cluster-domain", o.clusterDomain, "the cluster's DNS domain")
	f.StringVar(&o.dnsService, "dns-service", o.dnsService, "Service, as namespace/name, at whose cluster IPs DNS is answered")
	f.StringSliceVar(&o.dnsUpstreams, "dns-upstream", o.dnsUpstreams, "servers to ask for all other names, as address or address:port (default: those of --resolv-conf)")
	f.StringVar(&o.resolvConf, "resolv-conf", o.resolvConf, "file that names the servers to ask for all other names")
	f.StringSliceVar(&o.dnsListen, "dns-listen", o.dnsListen, "further address:port to answer DNS at")

	f.DurationVar(&o.heartbeatInterval, "heartbeat-interval", o.heartbeatInterval, "time between the heartbeats by which the nodes of a segment know each other; 10ms to 1s, the same on all nodes")
	f.IntVar(&o.heartbeatMultiplier, "heartbeat-multiplier", o.heartbeatMultiplier, "how many intervals a node may be silent until the others take over its addresses; 2 to 10")
	f.DurationVar(&o.leaveTime, "leave-time", o.leaveTime, "how long routers keep the routes of a node that leaves, after they were asked to prefer other nodes; at most 10s")
	f.StringVar(&o.drainOnStop, "drain-on-stop", o.drainOnStop, "whether the agent's end is the end of its BGP routes: auto (when the node is cordoned, excluded or not ready; otherwise it is expected back), always or never")

	f.StringVar(&o.bindAddress, "bind-address", o.bindAddress, "where to serve /metrics, /livez and /readyz of this agent")
	f.StringVar(&o.healthzAddress, "healthz-bind-address", o.healthzAddress, "where the proxy serves /healthz, which load balancers in front of the nodes ask, as kube-proxy does; empty: nowhere")
	f.BoolVar(&o.profiling, "profiling", o.profiling, "serve /debug/pprof at --bind-address")
	f.StringVar(&o.sysctlRoot, "sysctl-root", o.sysctlRoot, "where the node's /proc/sys can be written")
	f.StringVar(&o.logLevel, "log-level", o.logLevel, "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", o.logFormat, "text or json")
}

// complete checks the options and returns what they mean; the error holds all that is wrong.
func (o *options) complete() (*config, error) {
	c := &config{
		node: o.nodeName, namespace: o.namespace,
		speaker: o.speaker, proxy: o.proxy, dns: o.dns,
		clusterDomain: strings.Trim(o.clusterDomain, "."), resolvConf: o.resolvConf,
		bindAddress: o.bindAddress, profiling: o.profiling, sysctlRoot: o.sysctlRoot, leaveTime: o.leaveTime,
		heartbeatInterval: o.heartbeatInterval, heartbeatMultiplier: o.heartbeatMultiplier,
	}
	var errs []error
	check := func(flag string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", flag, err))
		}
	}
	var err error
	if c.node == "" {
		check("node-name", errors.New("is empty: give the name of this node's Node object"))
	}
	if !c.speaker && !c.proxy && !c.dns {
		errs = append(errs, errors.New("--speaker, --proxy and --dns are all false: nothing to do"))
	}
	if c.clusterDomain == "" {
		check("cluster-domain", errors.New("is empty: cluster.local is usual"))
	}
	c.clusterCIDRs, err = parseAll(o.clusterCIDRs, netip.ParsePrefix)
	check("cluster-cidr", err)
	c.serviceCIDRs, err = parseAll(o.serviceCIDRs, netip.ParsePrefix)
	check("service-cidr", err)
	if len(o.nodePorts) != 1 || o.nodePorts[0] != "primary" { // kube-proxy has the same word
		c.nodePorts, err = parseAll(o.nodePorts, netip.ParsePrefix)
		check("nodeport-addresses", err)
	}
	c.dnsUpstreams, err = parseAll(o.dnsUpstreams, parseDNSAddress)
	check("dns-upstream", err)
	c.dnsListen, err = parseAll(o.dnsListen, parseDNSAddress)
	check("dns-listen", err)
	namespace, name, ok := strings.Cut(o.dnsService, "/")
	if !ok || namespace == "" || name == "" {
		check("dns-service", fmt.Errorf("%q is not namespace/name", o.dnsService))
	}
	c.dnsService = cluster.Name{Namespace: namespace, Name: name}
	_, err = net.ResolveTCPAddr("tcp", o.bindAddress)
	check("bind-address", err)
	if c.heartbeatInterval < liveness.MinInterval || c.heartbeatInterval > liveness.MaxInterval {
		check("heartbeat-interval", fmt.Errorf("%s is not between %s and %s", c.heartbeatInterval, liveness.MinInterval, liveness.MaxInterval))
	}
	if c.heartbeatMultiplier < liveness.MinMultiplier || c.heartbeatMultiplier > liveness.MaxMultiplier {
		check("heartbeat-multiplier", fmt.Errorf("%d is not between %d and %d", c.heartbeatMultiplier, liveness.MinMultiplier, liveness.MaxMultiplier))
	}
	c.drainOnStop, err = speaker.ParseDrainPolicy(o.drainOnStop)
	check("drain-on-stop", err)
	if c.leaveTime < 0 || c.leaveTime > maxLeaveTime {
		check("leave-time", fmt.Errorf("%s is not between 0s and %s", c.leaveTime, maxLeaveTime))
	}
	if o.healthzAddress != "" {
		c.healthzAddress, err = netip.ParseAddrPort(o.healthzAddress)
		check("healthz-bind-address", err)
	}
	c.log, err = newLogger(o.logLevel, o.logFormat)
	errs = append(errs, err)
	c.rest, err = clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	check("kubeconfig", err)
	if c.rest != nil {
		c.rest.UserAgent = "seamark-node"
		// The API server's priority and fairness decides, not a client that holds back what a failover waits for.
		c.rest.QPS = -1
	}
	return c, errors.Join(errs...)
}

func newLogger(level, format string) (*slog.Logger, error) {
	var errs []error
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		errs = append(errs, fmt.Errorf("--log-level: %q is not one of debug, info, warn, error", level))
	}
	h := &slog.HandlerOptions{Level: l}
	var handler slog.Handler = slog.NewTextHandler(os.Stderr, h)
	switch format {
	case "text":
	case "json":
		handler = slog.NewJSONHandler(os.Stderr, h)
	default:
		errs = append(errs, fmt.Errorf("--log-format: %q is not one of text, json", format))
	}
	return slog.New(handler), errors.Join(errs...)
}

func parseAll[T any](in []string, parse func(string) (T, error)) ([]T, error) {
	var out []T
	var errs []error
	for _, s := range in {
		v, err := parse(s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, v)
	}
	return out, errors.Join(errs...)
}

// parseDNSAddress reads an address with or without a port; 53 if without.
func parseDNSAddress(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is neither an address nor address:port ([address]:port for IPv6)", s)
	}
	return ap, nil
}
