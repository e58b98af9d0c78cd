package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/seamark-io/seamark/integration/artifacts"
)

// Lab is a running lab. Its methods may be called concurrently, except that
// nothing may overlap with [Down].
type Lab struct {
	opts     Options
	plan     Plan
	dir      string // its folder
	bin      string // the folder of kubectl and the like
	server   string // the API server, through the relay
	programs map[string]string
	pause    string // the archive of the image that every pod needs
	cgroup   cgroup
	hosts    map[string]*Host
	cache    *artifacts.Cache
	progress *progress
}

// ErrNotFound is returned for a lab that does not exist.
var ErrNotFound = errors.New("no such lab")

// Open returns the lab of that name, which need not be complete: up may have
// failed half-way.
func Open(name string) (*Lab, error) {
	dir, err := labDir(name)
	if err != nil {
		return nil, err
	}
	s, err := readState(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if err != nil {
		return nil, err
	}
	return newLab(s, dir)
}

func labDir(name string) (string, error) {
	if err := validateName(name); err != nil {
		return "", err
	}
	root, err := stateRoot()
	return filepath.Join(root, name), err
}

func newLab(s state, dir string) (*Lab, error) {
	group, err := labCgroup(s.Options.Name)
	if err != nil {
		return nil, err
	}
	l := &Lab{
		opts:     s.Options,
		plan:     NewPlan(s.Options),
		dir:      dir,
		bin:      filepath.Join(dir, "bin"),
		server:   s.Server,
		programs: s.Programs,
		pause:    s.Pause,
		cgroup:   group,
		hosts:    make(map[string]*Host),
		progress: newProgress(s.Options.Progress),
	}
	l.cache = &artifacts.Cache{Source: s.Options.Source, Log: l.progress}
	for _, h := range l.plan.Hosts {
		l.hosts[h.Name] = &Host{HostPlan: h, lab: l}
	}
	return l, nil
}

// Close releases what the value holds in this process; the lab stays up.
func (l *Lab) Close() error {
	for _, h := range l.hosts {
		h.closeCgroups()
	}
	return nil
}

// Options returns what the lab was made with.
func (l *Lab) Options() Options { return l.opts }

// Plan returns the hosts of the lab with their addresses.
func (l *Lab) Plan() Plan { return l.plan }

// SetProgress sends progress lines to w from now on; nil discards them. Unlike
// the other methods it must not overlap with any.
func (l *Lab) SetProgress(w io.Writer) {
	l.progress = newProgress(w)
	l.cache.Log = l.progress
}

// Host returns the host of that name.
func (l *Lab) Host(name string) (*Host, error) {
	h := l.hosts[name]
	if h == nil {
		var names []string
		for _, h := range l.plan.Hosts {
			names = append(names, h.Name)
		}
		return nil, fmt.Errorf("lab %s has no host %q; it has: %s", l.opts.Name, name, strings.Join(names, " "))
	}
	return h, nil
}

// Kubeconfig returns the path of a kubeconfig with which the API server is
// reached from the machine, with all rights.
func (l *Lab) Kubeconfig() string { return filepath.Join(l.dir, "kubeconfig") }

// RESTConfig returns the configuration for a client with all rights and
// without a limit of its own on requests.
func (l *Lab) RESTConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", l.Kubeconfig())
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return config, nil
}

func (l *Lab) client() (kubernetes.Interface, error) {
	config, err := l.RESTConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// KubectlCommand returns a kubectl command that runs on the machine, not on a
// host of the lab.
func (l *Lab) KubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, l.programs["kubectl"], args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+l.Kubeconfig())
	cmd.WaitDelay = waitDelay
	return cmd
}

// Kubectl runs kubectl against the lab.
func (l *Lab) Kubectl(ctx context.Context, args ...string) (Output, error) {
	return output(ctx, l.KubectlCommand(ctx, args...))
}

// Apply applies manifests, server-side, as the field manager "lab".
func (l *Lab) Apply(ctx context.Context, manifests []byte) error {
	cmd := l.KubectlCommand(ctx, "apply", "--server-side", "--field-manager=lab", "-f", "-")
	cmd.Stdin = strings.NewReader(string(manifests))
	_, err := output(ctx, cmd)
	return err
}

// loadLimit is how long importing an image takes at most.
const loadLimit = 5 * time.Minute

// Load imports an image archive (OCI or docker) into the container runtimes of
// the named nodes, or of all if none is named.
func (l *Lab) Load(ctx context.Context, archive string, nodes ...string) error {
	if _, err := os.Stat(archive); err != nil {
		return err
	}
	if len(nodes) == 0 {
		for _, node := range l.plan.Nodes() {
			nodes = append(nodes, node.Name)
		}
	}
	var hosts []*Host
	for _, name := range nodes {
		h, err := l.Host(name)
		if err != nil {
			return err
		}
		if h.Role != RoleNode {
			return fmt.Errorf("%s is not a node", name)
		}
		hosts = append(hosts, h)
	}
	err := l.progress.during(ctx, loadLimit, "loading "+filepath.Base(archive), func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		for _, h := range hosts {
			group.Go(func() error { return h.importImage(ctx, archive) })
		}
		return group.Wait()
	})
	if err != nil {
		return err
	}
	l.progress.printf("%s is on %s", filepath.Base(archive), strings.Join(nodes, " "))
	return nil
}

// importImage imports an image archive into the node's container runtime. The
// file may be anywhere on the machine.
func (h *Host) importImage(ctx context.Context, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := h.Command(ctx, "ctr", "--namespace=k8s.io", "images", "import", "-")
	cmd.Stdin = f
	_, err = h.run(ctx, cmd)
	return err
}

// linkPrograms gives the hosts one folder for their PATH with all programs.
func (l *Lab) linkPrograms() error {
	if err := os.MkdirAll(l.bin, 0o755); err != nil {
		return err
	}
	for name, path := range l.programs {
		if err := os.Symlink(path, filepath.Join(l.bin, name)); err != nil {
			return err
		}
	}
	return nil
}
