package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/seamark-io/seamark/api/client"
	"github.com/seamark-io/seamark/cluster/preflight"
	"github.com/seamark-io/seamark/cluster/watch"
	"github.com/seamark-io/seamark/dns"
	"github.com/seamark-io/seamark/dns/bind"
	"github.com/seamark-io/seamark/dns/notrack"
	"github.com/seamark-io/seamark/dns/zone"
	"github.com/seamark-io/seamark/proxy"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// apiServerWait is how long to wait for an API server that does not answer: node and control plane may start together.
const apiServerWait = 2 * time.Minute

// part is one of the agent's loops.
type part struct {
	name string
	run  func(ctx context.Context) error
	// ready says what is missing until the part does its work.
	ready func() error
}

// agent is everything that runs, made but not started.
type agent struct {
	config   *config
	kube     kubernetes.Interface
	seamark  *client.Client
	watcher  *watch.Watcher
	registry *prometheus.Registry
	parts    []part
}

// runAgent works until ctx ends or a part cannot go on.
func runAgent(ctx context.Context, c *config) error {
	a, err := newAgent(ctx, c)
	if err != nil {
		return err
	}
	c.log.Info("seamark-node starts", "node", c.node, "speaker", c.speaker, "proxy", c.proxy, "dns", c.dns)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.serveHTTP(ctx) })
	for _, p := range a.parts {
		g.Go(func() error {
			if err := p.run(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func newAgent(ctx context.Context, c *config) (*agent, error) {
	a := &agent{config: c, registry: prometheus.NewRegistry()}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var err error
	// The built-in kinds are read in protobuf, at a third of JSON's cost.
	core := rest.CopyConfig(c.rest)
	core.ContentType, core.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	if a.kube, err = kubernetes.NewForConfig(core); err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	if a.seamark, err = client.New(c.rest); err != nil {
		return nil, err
	}
	if err := preflight.Check(ctx, preflight.Config{
		Kube: a.kube, Access: access(c), Wait: apiServerWait, Manifest: "manifests/node/rbac.yaml", Log: c.log,
	}); err != nil {
		return nil, err
	}
	a.watcher, err = watch.New(watch.Config{Kube: a.kube, Seamark: a.seamark, Namespace: c.namespace, Log: c.log.With("part", "watch")})
	if err != nil {
		return nil, err
	}
	synced := a.watcher.Source()
	a.parts = append(a.parts, part{name: "watch", run: a.watcher.Run, ready: func() error {
		if synced.Snapshot() == nil {
			return errors.New("the API has not been read yet")
		}
		return nil
	}})
	for _, add := range []struct {
		on  bool
		add func() error
	}{{c.speaker, a.addSpeaker}, {c.proxy, a.addProxy}, {c.dns, a.addDNS}} {
		if !add.on {
			continue
		}
		if err := add.add(); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *agent) addProxy() error {
	c := a.config
	rules := ruleset.Config{Node: c.node, ClusterCIDRs: c.clusterCIDRs}
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
	})
	if err != nil {
		return err
	}
	a.parts = append(a.parts, part{name: "proxy", run: p.Run, ready: p.Ready})
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
	a.parts = append(a.parts, part{name: "dns", run: s.Run, ready: s.Ready})
	return nil
}
