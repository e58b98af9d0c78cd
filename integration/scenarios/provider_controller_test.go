package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// ownController is a controller of bin/ that a scenario runs itself, on the control plane's host, with the rights of the
// real one. It reaches the API server by way of the scenario, which counts its writes and can kill it at any of them.
type ownController struct {
	t          *testing.T
	name       string
	elect      bool // whether it must be elected before it works
	program    string
	kubeconfig string
	api        http.RoundTripper // to the API server

	mu      sync.Mutex
	process *exec.Cmd
	ended   chan struct{}
	watches map[string]bool // paths that it watches
	writes  []write
	clashes int // creations that were refused because somebody else was faster
	fault   fault
	killed  chan struct{} // closed when fault has come true
}

// write is one of a controller's requests that change something: the n-th, counted from 1, of its kind since
// [ownController.arm].
type write struct {
	what string // "PATCH services/status"
	n    int
}

func (w write) String() string { return fmt.Sprintf("%s, number %d", w.what, w.n) }

// fault is at which write the controller is killed: before the API server gets it, or after it is done and before the
// answer is back. The zero value never comes.
type fault struct {
	write
	after bool
}

func (f fault) String() string {
	if f.after {
		return "after " + f.write.String()
	}
	return "before " + f.write.String()
}

// controllers is how many replicas the manifest has.
const controllers = 2

// withoutControllers stops the controllers of the Deployment until the test ends.
func withoutControllers(t *testing.T) {
	t.Helper()
	deployments := cluster.client.AppsV1().Deployments(seamarkNamespace)
	replicas := func(ctx context.Context, n int32) {
		t.Helper()
		if _, err := cluster.Kubectl(ctx, "scale", "deployment", controllerProgram, "--namespace="+seamarkNamespace, fmt.Sprintf("--replicas=%d", n)); err != nil {
			t.Fatal(err)
		}
	}
	putBack(t, func(ctx context.Context) {
		replicas(ctx, controllers)
		err := poll(cluster.running, podLimit, func(ctx context.Context) error {
			d, err := deployments.Get(ctx, controllerProgram, metav1.GetOptions{})
			if err != nil {
				return err
			}
			_, _, err = leader(ctx)
			return errors.Join(err, want("the number of controllers", d.Status.ReadyReplicas, controllers))
		})
		if err != nil {
			t.Errorf("the controllers of the Deployment are not back: %v", err)
		}
	})
	replicas(contextOf(t), 0)
	// A kubelet that has lost the API server, in the test before, looks again after as long as a minute: client-go's reflectors wait
	// for 30 s, and up to twice that by chance.
	await(t, 2*podLimit, "no controller runs", func(ctx context.Context) error {
		for _, node := range nodes(t) {
			if p := node.pids(controllerProgram); len(p) > 0 {
				return fmt.Errorf("on %s runs %v", node.Name, p)
			}
		}
		return nil
	})
}

// newController returns a controller that is not started yet.
func newController(t *testing.T, name string, elect bool) *ownController {
	t.Helper()
	c := &ownController{t: t, name: name, elect: elect, program: filepath.Join(cluster.source, "bin", controllerProgram)}
	if _, err := os.Stat(c.program); err != nil {
		t.Fatalf("%v: run make build", err)
	}
	config := rest.CopyConfig(cluster.config)
	config.Impersonate.UserName = "system:serviceaccount:" + seamarkNamespace + ":" + controllerProgram
	var err error
	if c.api, err = rest.TransportFor(config); err != nil {
		t.Fatal(err)
	}
	apiServer, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := on(t, "cp").netns().Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(apiServer) },
		Transport:     c,
		FlushInterval: -1, // watches
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })

	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters["lab"] = &clientcmdapi.Cluster{Server: "http://" + listener.Addr().String()}
	kubeconfig.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab"}
	kubeconfig.CurrentContext = "lab"
	c.kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*kubeconfig, c.kubeconfig); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.kill()
		if log, err := os.ReadFile(c.log()); err == nil && t.Failed() {
			text := string(log)
			t.Logf("--- end of the log of controller %s\n%s", name, text[max(0, len(text)-6000):])
		}
	})
	return c
}

func (c *ownController) log() string { return filepath.Join(filepath.Dir(c.kubeconfig), "log") }

// start starts the controller, which does not run. If it must be elected it need not wait until the Lease of the one before
// has run out.
func (c *ownController) start() {
	c.t.Helper()
	err := cluster.client.CoordinationV1().Leases(seamarkNamespace).Delete(contextOf(c.t), controllerProgram, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		c.t.Fatal(err)
	}
	log, err := os.OpenFile(c.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	cmd := on(c.t, "cp").Command(context.Background(), c.program, "--kubeconfig="+c.kubeconfig, "--secure-port=0", fmt.Sprintf("--leader-elect=%t", c.elect))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process, c.ended, c.watches = cmd, ended, map[string]bool{}
}

// kill kills the controller, if it runs, and returns when it is dead.
func (c *ownController) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killLocked()
}

func (c *ownController) killLocked() {
	if c.process == nil {
		return
	}
	_ = c.process.Process.Kill()
	<-c.ended
	c.process = nil
}

// arm forgets the writes so far, and kills the controller at one of those to come. The channel is closed when it is dead.
func (c *ownController) arm(f fault) (killed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes, c.fault, c.killed = nil, f, make(chan struct{})
	return c.killed
}

// written returns the writes since [ownController.arm].
func (c *ownController) written() []write {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.writes)
}

var errKilled = errors.New("the controller has been killed")

// RoundTrip passes a request on to the API server.
func (c *ownController) RoundTrip(r *http.Request) (*http.Response, error) {
	what, writes := writeOf(r)
	if !writes {
		resp, err := c.api.RoundTrip(r)
		if err == nil && r.URL.Query().Get("watch") != "" {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.watches[r.URL.Path] = true
		}
		return resp, err
	}
	c.mu.Lock()
	w := write{what, 1}
	for _, earlier := range c.writes {
		if earlier.what == what {
			w.n++
		}
	}
	c.writes = append(c.writes, w)
	fatal := c.fault.write == w
	if fatal && !c.fault.after {
		defer c.mu.Unlock()
		return nil, c.die()
	}
	c.mu.Unlock()
	resp, err := c.api.RoundTrip(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && resp.StatusCode == http.StatusConflict && r.Method == http.MethodPost {
		c.clashes++
	}
	if fatal {
		if err == nil {
			resp.Body.Close()
		}
		return nil, c.die()
	}
	return resp, err
}

// die makes the fault come true; mu is held.
func (c *ownController) die() error {
	c.killLocked()
	c.fault = fault{}
	close(c.killed)
	return errKilled
}

// writeOf returns what a request writes, as "PATCH services/status", if it is about addresses: not about rights, events, or
// who announces what.
func writeOf(r *http.Request) (what string, writes bool) {
	if r.Method == http.MethodGet {
		return "", false
	}
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/") // api/v1/… or apis/GROUP/VERSION/…
	if path = path[min(len(path), 2):]; strings.HasPrefix(r.URL.Path, "/apis/") && len(path) > 0 {
		path = path[1:]
	}
	if len(path) > 2 && path[0] == "namespaces" {
		path = path[2:]
	}
	if len(path) == 0 {
		return "", false
	}
	resource := path[0]
	if len(path) > 2 {
		resource += "/" + path[2]
	}
	return r.Method + " " + resource, slices.Contains([]string{"services/status", "vips", "ippools", "ippools/status"}, resource)
}

// awaitWatching waits until the controller knows all that it decides by.
func (c *ownController) awaitWatching() {
	c.t.Helper()
	await(c.t, changeLimit, "controller "+c.name+" watches Services, pools and VIPs", func(context.Context) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		var errs []error
		for _, path := range []string{"/api/v1/services", "/apis/seamark.io/v1alpha1/ippools", "/apis/seamark.io/v1alpha1/vips"} {
			if !c.watches[path] {
				errs = append(errs, fmt.Errorf("it does not watch %s", path))
			}
		}
		return errors.Join(errs...)
	})
}
