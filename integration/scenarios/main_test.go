package scenarios

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
	// running ends when the run is interrupted, or when its time is nearly up.
	running  context.Context
	contexts sync.Map // by *testing.T, see contextOf
	// Of a lab that was made for this run: how long that took, and its resident memory when it was new.
	upTook time.Duration
	memory int64
}

const (
	// ownLab is the name of the lab that is made if none is named.
	ownLab = "scn"
	// nodeGrace is short, because a node that is cut off is to be noticed soon, and long enough for scenarios that stop a
	// kubelet for some seconds and want its node to stay Ready.
	nodeGrace = 20 * time.Second
	// endLimit is the time that is kept, of what go test -timeout gives, for tests to end and the lab to be taken down.
	endLimit = 2 * time.Minute
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

// ownsLab reports whether the lab goes when the run ends.
func ownsLab() bool { return *labName == "" && !*keep }

func run(m *testing.M) (code int) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("scenarios need a lab: left out by -short")
		return 0
	}
	// Most of a scenario is waiting for pods.
	_ = flag.Set("test.parallel", "6")
	ctx, stop := runContext()
	defer stop()
	cluster.running = ctx
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "scenarios:", err)
		return 1
	}
	l, err := openLab(ctx)
	if ownsLab() {
		defer func() {
			if err := downOwn(context.WithoutCancel(ctx), os.Stderr); err != nil {
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
	if err := context.Cause(ctx); err != nil {
		return fail(err)
	}
	if !ownsLab() {
		if err := awaitNoNamespaces(ctx); err != nil {
			return fail(err)
		}
	}
	return code
}

// runContext returns a context that ends when the run is interrupted (the second time the process ends at once), or when
// what go test -timeout gives, counted from about now, is nearly up: then a panic ends the process, and the lab would stay.
func runContext() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	context.AfterFunc(ctx, stop)
	limit, _ := time.ParseDuration(flag.Lookup("test.timeout").Value.String())
	if limit == 0 {
		return ctx, stop
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit-min(endLimit, limit/4), fmt.Errorf("the %s of go test -timeout are nearly up", limit))
	return ctx, func() {
		cancel()
		stop()
	}
}

// downOwn takes down the labs that scenarios make.
func downOwn(ctx context.Context, progress io.Writer) error {
	return errors.Join(lab.Down(ctx, ownLab, progress), lab.Down(ctx, etcdLab, nil), lab.Down(ctx, halvesLab, nil))
}

func openLab(ctx context.Context) (*lab.Lab, error) {
	if *labName != "" {
		l, err := lab.Open(*labName)
		if errors.Is(err, lab.ErrNotFound) {
			err = fmt.Errorf("%w: bring it up first (lab up --name %s), or leave out -lab", err, *labName)
		}
		return l, err
	}
	if err := downOwn(ctx, nil); err != nil { // what an interrupted run left
		return nil, err
	}
	o := lab.DefaultOptions()
	o.Name = ownLab
	o.Proxy, o.DNS, o.LB = lab.Provider(*proxy), lab.Provider(*dns), lab.Provider(*lb)
	o.NodeGrace = nodeGrace
	o.Images = []string{podImage}
	o.Progress = os.Stderr
	programs, images := lab.Needs(o)
	if err := (&artifacts.Cache{Log: os.Stderr}).Prepare(ctx, programs, images); err != nil {
		return nil, err
	}
	start := time.Now()
	l, err := lab.Up(ctx, o)
	if err == nil {
		cluster.upTook, cluster.memory = time.Since(start), l.Memory()
	}
	return l, err
}

// podImage is of the scenarios' pods.
const podImage = "agnhost"

// prepare gives the lab the image of the scenarios' pods, unless it was made with it, and, where Seamark is the load balancer, the pool and the router
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
	if !slices.Contains(cluster.Options().Images, podImage) {
		image, err := (&artifacts.Cache{Source: cluster.source, Log: os.Stderr}).Image(ctx, podImage)
		if err != nil {
			return err
		}
		if err := cluster.Load(ctx, image); err != nil {
			return err
		}
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

// What a lab of three nodes is to need at most, once all is built.
const (
	upTarget     = 60 * time.Second
	memoryTarget = 2500 << 20 // bytes
	// farOff is by what factor a busy machine may miss a target.
	farOff = 3
)

// The lab itself is small and soon there.
func TestLabTargets(t *testing.T) {
	if cluster.upTook == 0 {
		t.Skip("this lab was not made for this run")
	}
	t.Logf("up in %.1f s (target %.0f s); resident memory %d MiB (target %d MiB)",
		cluster.upTook.Seconds(), upTarget.Seconds(), cluster.memory>>20, memoryTarget>>20)
	if cluster.upTook > farOff*upTarget || cluster.memory > farOff*memoryTarget {
		t.Errorf("that is more than %d times the target", farOff)
	}
}
