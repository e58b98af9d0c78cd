package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	v1core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/app"
	"k8s.io/cloud-provider/app/config"
	servicecontroller "k8s.io/cloud-provider/controllers/service"
	"k8s.io/cloud-provider/names"
	"k8s.io/component-base/metrics/legacyregistry"
	genericcontrollermanager "k8s.io/controller-manager/app"
	"k8s.io/controller-manager/controller"
	"k8s.io/klog/v2"

	corev1 "k8s.io/api/core/v1"
	utilfeature "k8s.io/apiserver/pkg/util/feature"

	"github.com/seamark-io/seamark/api/client"
	"github.com/seamark-io/seamark/cluster/reconnect"
	"github.com/seamark-io/seamark/provider"
	"github.com/seamark-io/seamark/provider/agents"
)

// addressController is the name of what package provider does beside the service controller.
const addressController = "seamark-address-controller"

// eventCache is of how many objects client-go remembers the Events that were told, to count those that come again. Its 4096 take
// ten megabytes where there are as many Services.
const eventCache = 128

// services says which Services are served.
type services struct {
	// class is their spec.loadBalancerClass; classless: those without one, too.
	class     string
	classless bool
}

// newCloud returns what makes the provider, for the Services that the flags say when it is called, and has it read everything
// until ctx ends: a replica that leads later is then ready for it. It has no way to return an error; there is none after
// preflightChecks has connected with the same configuration.
func newCloud(ctx context.Context, served *services) func(c *config.CompletedConfig) cloudprovider.Interface {
	return func(c *config.CompletedConfig) cloudprovider.Interface {
		p, err := newProvider(c, *served)
		if err != nil {
			klog.ErrorS(err, "cannot start")
			klog.FlushAndExit(klog.ExitFlushTimeout, 1)
		}
		p.SetInformers(c.SharedInformers)
		c.SharedInformers.Start(ctx.Done())
		go p.Watch(ctx)
		return p
	}
}

// newProvider also gives c informers whose watches are back soon after the API server was away.
func newProvider(c *config.CompletedConfig, served services) (*provider.Provider, error) {
	log := slog.New(logr.ToSlogHandler(klog.Background()))
	patient := rest.CopyConfig(c.Kubeconfig)
	patient.Wrap(reconnect.Watches(log))
	kube, err := kubernetes.NewForConfig(rest.AddUserAgent(rest.CopyConfig(patient), "shared-informers")) // as those that they replace
	if err != nil {
		return nil, err
	}
	c.SharedInformers = informers.NewSharedInformerFactory(kube, wait.Jitter(c.ComponentConfig.Generic.MinResyncPeriod.Duration, 1))
	seamark, err := client.New(patient)
	if err != nil {
		return nil, err
	}
	events := record.NewBroadcaster(record.WithCorrelatorOptions(record.CorrelatorOptions{LRUCacheSize: eventCache}))
	events.StartRecordingToSink(&v1core.EventSinkImpl{Interface: c.VersionedClient.CoreV1().Events("")})
	p, err := provider.New(provider.Config{
		Kube:    c.VersionedClient,
		Seamark: seamark,
		Events:  events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: provider.FieldManager}),
		Log:     log,
		Class:   served.class, OnlyClass: !served.classless,
		Sole: c.ComponentConfig.Generic.LeaderElection.LeaderElect,
	})
	if err == nil {
		legacyregistry.RawMustRegister(p)
	}
	return p, err
}

// controllers are the stock service controller, whose informer the provider can wake, and the provider's own work.
func controllers() map[string]app.ControllerInitFuncConstructor {
	return map[string]app.ControllerInitFuncConstructor{
		names.ServiceLBController: {
			InitContext: app.ControllerInitContext{ClientName: "service-controller"},
			Constructor: func(ic app.ControllerInitContext, c *config.CompletedConfig, cloud cloudprovider.Interface) app.InitFunc {
				return func(ctx context.Context, cc genericcontrollermanager.ControllerContext) (controller.Interface, bool, error) {
					return startServiceController(ctx, ic, cc, c, cloud.(*provider.Provider))
				}
			},
		},
		addressController: {
			Constructor: func(_ app.ControllerInitContext, _ *config.CompletedConfig, cloud cloudprovider.Interface) app.InitFunc {
				return func(ctx context.Context, _ genericcontrollermanager.ControllerContext) (controller.Interface, bool, error) {
					p := cloud.(*provider.Provider)
					keeper := &agents.Keeper{Kube: p.Kube, Namespace: namespace, Log: p.Log}
					go keeper.Run(ctx)
					go func() {
						if err := p.Run(ctx); err != nil && ctx.Err() == nil {
							klog.ErrorS(err, "the provider ended")
							os.Exit(1)
						}
					}()
					return nil, true, nil
				}
			},
		},
	}
}

func startServiceController(ctx context.Context, ic app.ControllerInitContext, cc genericcontrollermanager.ControllerContext, c *config.CompletedConfig, p *provider.Provider) (controller.Interface, bool, error) {
	core := c.SharedInformers.Core().V1()
	s, err := servicecontroller.New(p, p.Client(c.ClientBuilder.ClientOrDie(ic.ClientName)), p.Services(core.Services()), core.Nodes(),
		c.ComponentConfig.KubeCloudShared.ClusterName, utilfeature.DefaultFeatureGate)
	if err != nil {
		return nil, false, err
	}
	go func() {
		select {
		case <-p.Ready():
			s.Run(ctx, int(c.ComponentConfig.ServiceController.ConcurrentServiceSyncs), cc.ControllerManagerMetrics)
		case <-ctx.Done():
		}
	}()
	return nil, true, nil
}
