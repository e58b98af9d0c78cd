package scenarios

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/seamark-io/seamark/integration/artifacts"
	"github.com/seamark-io/seamark/integration/lab"
)

var (
	labName = flag.String("lab", "", "use the running lab of this `NAME`, and leave it up")
	keep    = flag.Bool("keep", false, "leave the lab up that was made for this run")
	proxy   = flag.String("proxy", string(lab.Seamark), "of the lab to make: seamark or kube-proxy")
	dns     = flag.String("dns", string(lab.Seamark), "of the lab to make: seamark or coredns")
	lb      = flag.String("lb", string(lab.Seamark), "of the lab to make: seamark or none")
)

// cluster is the lab that all scenarios use. TestMain sets it.
var cluster struct {
	*lab.Lab
	config  *rest.Config
	client  kubernetes.Interface
	dynamic dynamic.Interface
	source  string // root of the checkout
}

// ownLab is the name of the lab that is made if none is named. A node that is cut off is to be noticed soon.
const (
	ownLab    = "scn"
	nodeGrace = 8 * time.Second
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("scenarios need a lab: left out by -short")
		return 0
	}
	// Most of a scenario is waiting for pods.
	_ = flag.Set("test.parallel", "6")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "scenarios:", err)
		return 1
	}
	l, err := openLab(ctx)
	if *labName == "" && !*keep {
		defer func() {
			if err := lab.Down(context.WithoutCancel(ctx), ownLab, os.Stderr); err != nil {
				code = fail(err)
			}
		}()
	}
	if err != nil {
		return fail(err)
	}
	cluster.Lab = l
	if err := prepare(ctx); err != nil {
		return fail(err)
	}
	code = m.Run()
	if *labName != "" || *keep {
		if err := awaitNoNamespaces(ctx); err != nil {
			return fail(err)
		}
	}
	return code
}

func openLab(ctx context.Context) (*lab.Lab, error) {
	if *labName != "" {
		l, err := lab.Open(*labName)
		if errors.Is(err, lab.ErrNotFound) {
			err = fmt.Errorf("%w: bring it up first (lab up --name %s), or leave out -lab", err, *labName)
		}
		return l, err
	}
	if err := lab.Down(ctx, ownLab, nil); err != nil { // what an interrupted run left
		return nil, err
	}
	o := lab.DefaultOptions()
	o.Name = ownLab
	o.Proxy, o.DNS, o.LB = lab.Provider(*proxy), lab.Provider(*dns), lab.Provider(*lb)
	o.NodeGrace = nodeGrace
	o.Progress = os.Stderr
	return lab.Up(ctx, o)
}

// prepare gives the lab the image of the scenarios' pods and, where Seamark is the load balancer, the pool and the router
// of examples/.
func prepare(ctx context.Context) error {
	var err error
	if cluster.config, err = cluster.RESTConfig(); err != nil {
		return err
	}
	if cluster.client, err = kubernetes.NewForConfig(cluster.config); err != nil {
		return err
	}
	if cluster.dynamic, err = dynamic.NewForConfig(cluster.config); err != nil {
		return err
	}
	cluster.source = cluster.Options().Source
	image, err := (&artifacts.Cache{Log: os.Stderr}).Image(ctx, "agnhost")
	if err != nil {
		return err
	}
	if err := cluster.Load(ctx, image); err != nil {
		return err
	}
	if cluster.Options().LB != lab.Seamark {
		return nil
	}
	for _, name := range []string{"ippool.yaml", "bgppeer.yaml"} {
		if _, err := cluster.Kubectl(ctx, "apply", "-f", filepath.Join(cluster.source, "examples", name)); err != nil {
			return err
		}
	}
	return nil
}

// needsSeamarkLB skips a scenario about load balancers in a lab that was made without one.
func needsSeamarkLB(t *testing.T) {
	t.Helper()
	if cluster.Options().LB != lab.Seamark {
		t.Skip("this lab has no load balancer (it was made with --lb none)")
	}
}
