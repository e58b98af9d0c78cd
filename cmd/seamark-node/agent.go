package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	"github.com/seamark-io/seamark/api/client"
	"github.com/seamark-io/seamark/cluster/preflight"
	"github.com/seamark-io/seamark/cluster/reconnect"
	"github.com/seamark-io/seamark/cluster/watch"
	"github.com/seamark-io/seamark/dns"
	"github.com/seamark-io/seamark/dns/bind"
	"github.com/seamark-io/seamark/dns/notrack"
	"github.com/seamark-io/seamark/dns/zone"
	"github.com/seamark-io/seamark/proxy"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// agent is everything that runs, made but not started.
type agent struct {
	config   *config
	kube     kubernetes.Interface
	seamark  *client.Client
	watcher  *watch.Watcher
	registry *prometheus.Registry
	events   record.EventRecorder
	parts    []*part
	garbage  garbage
}

// runAgent works until ctx ends or it turns out that something must be put right first. Nothing waits for the API server:
// what an earlier agent left on this node, the cluster DNS address above all, is served until it answers.
func runAgent(ctx context.Context, c *config) error {
	if err := probe(needs(c)); err != nil {
		return err
	}
	a, err := newAgent(c)
	if err != nil {
		return err
	}
	c.log.Info("seamark-node starts", "node", c.node, "speaker", c.speaker, "proxy", c.proxy, "dns", c.dns)
	// The rules of a proxy that is switched off would go on leading to endpoints as they were.
	if err := removeUnused(ctx, leftovers(c)); err != nil {
		c.log.Warn("What an agent with other parts has left cannot be removed", "err", err)
	}
	return keepAll(ctx, c.log, a.parts, a.serveHTTP)
}

func newAgent(c *config) (*agent, error) {
	a := &agent{config: c, registry: prometheus.NewRegistry()}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var err error
	patient := rest.CopyConfig(c.rest)
	patient.Wrap(reconnect.Watches(c.log))
	// The built-in kinds are read in protobuf, at a third of JSON's cost.
	core := rest.CopyConfig(patient)
	core.ContentType, core.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	if a.kube, err = kubernetes.NewForConfig(core); err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	if a.seamark, err = client.New(patient); err != nil {
		return nil, err
	}
	for _, add := range []struct {
		on  bool
		add func() error
	}{{true, a.addWatch}, {c.speaker, a.addSpeaker}, {c.proxy, a.addProxy}, {c.dns, a.addDNS}} {
		if !add.on {
			continue
		}
		if err := add.add(); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *agent) addWatch() error {
	c := a.config
	var err error
	a.watcher, err = watch.New(watch.Config{Kube: a.kube, Seamark: a.seamark, Namespace: c.namespace, Log: c.log.With("part", "watch")})
	if err != nil {
		return err
	}
	synced := a.watcher.Source()
	a.parts = append(a.parts, &part{
		name: "watch",
		run: func(ctx context.Context) error {
			if err := preflight.Check(ctx, preflight.Config{Kube: a.kube, Access: access(c), Manifest: "manifests/node/rbac.yaml", Log: c.log}); err != nil {
				return err
			}
			return a.watcher.Run(ctx)
		},
		ready: func() error {
			if synced.Snapshot() == nil {
				return errors.New("the API has not been read yet")
			}
			return nil
		},
		alive: a.watcher.Alive,
	})
	return nil
}

func (a *agent) addProxy() error {
	c := a.config
	rules := ruleset.Config{Node: c.node, ClusterCIDRs: c.clusterCIDRs, NodePortPrefixes: c.nodePorts}
	if c.dns {
		rules.LocalDNS = c.dnsService
	}
	p, err := proxy.New(proxy.Config{
		Rules:         rules,
		Source:        a.watcher.Source(),
		Log:           c.log.With("part", "proxy"),
		HealthAddress: c.healthzAddress,
		SysctlRoot:    c.sysctlRoot,
		Metrics:       a.registry,
		Problem:       a.newProblemTeller().tell,
	})
	if err != nil {
		return err
	}
	a.parts = append(a.parts, &part{name: "proxy", run: p.Run, again: true, ready: p.Ready, alive: p.Alive})
	return nil
}

func (a *agent) addDNS() error {
	c := a.config
	addresses, err := bind.New()
	if err != nil {
		return err
	}
	s, err := dns.New(dns.Config{
		Source: a.watcher.Source(),
		Zone: zone.Config{
			Domain:       c.clusterDomain,
			TTL:          zone.DefaultTTL,
			ReverseCIDRs: slices.Concat(c.clusterCIDRs, c.serviceCIDRs),
			Service:      c.dnsService,
		},
		Addresses:  addresses,
		Notrack:    &notrack.Driver{},
		Listen:     c.dnsListen,
		Upstreams:  c.dnsUpstreams,
		ResolvConf: c.resolvConf,
		Registerer: a.registry,
		Log:        c.log.With("part", "dns"),
	})
	if err != nil {
		return err
	}
	a.parts = append(a.parts, &part{name: "dns", run: s.Run, again: true, ready: s.Ready, alive: s.Alive})
	return nil
}
