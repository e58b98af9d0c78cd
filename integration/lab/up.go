package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seamark-io/seamark/integration/artifacts"
)

// debianPrograms returns the programs that must be installed on the machine.
func debianPrograms() []string {
	return []string{"bird", "birdc", "containerd", "crun", "ctr", "dnsmasq", "etcd", "etcdctl", "go", "ip", "iptables", "nft", "nsenter"}
}

// cniPlugins is where containerd finds them, see templates/containerd.toml.tmpl.
const cniPlugins = "/usr/lib/cni"

// upLimit is how long up takes at most, once programs and images are built. Each
// step has a shorter limit of its own, where it waits for something.
const upLimit = 10 * time.Minute

// Up makes a lab and returns when its cluster is ready. If it fails, or ctx
// ends, what it made stays for a look, and the lab is returned beside the error;
// [Down] removes it. The lab is nil if nothing was made, also when there is one
// of that name already.
func Up(ctx context.Context, o Options) (*Lab, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := checkMachine(); err != nil {
		return nil, err
	}
	source, err := artifacts.FindCheckout(o.Source)
	if err != nil {
		return nil, err
	}
	o.Source = source
	if err := CheckVisible("--source", source); err != nil {
		return nil, err
	}
	dir, err := labDir(o.Name)
	if err != nil {
		return nil, err
	}
	l, err := newLab(state{Options: o, Programs: map[string]string{}}, dir)
	if err != nil {
		return nil, err
	}
	unlock, err := lockLab(ctx, dir, l.progress)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := l.checkAbsent(); err != nil {
		return nil, err
	}
	l.progress.printf("lab %s: nodes %d, families %s, proxy %s, dns %s, lb %s", o.Name, o.Nodes, o.Families, o.Proxy, o.DNS, o.LB)
	images, err := l.prepare(ctx)
	if err != nil {
		return nil, err
	}
	listener, server, err := listen("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	l.server = server
	if err := l.makeFolder(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, upLimit, fmt.Errorf("gave up after %s", upLimit))
	defer cancel()
	return l, l.up(ctx, listener, images)
}

// checkAbsent returns an error if there is anything of a lab of that name.
func (l *Lab) checkAbsent() error {
	remains, err := labNetNS(l.opts.Name)
	if err != nil {
		return err
	}
	for _, dir := range []string{l.dir, string(l.cgroup)} {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			remains = append(remains, dir)
		}
	}
	if len(remains) > 0 {
		return fmt.Errorf("lab %s exists, or remains of it do (%s): take it down first", l.opts.Name, strings.Join(remains, " "))
	}
	return nil
}

// checkMachine reports what a lab needs and this machine lacks.
func checkMachine() error {
	if os.Geteuid() != 0 {
		return errors.New("a lab is made of namespaces: run this as root")
	}
	var missing []string
	for _, program := range debianPrograms() {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	if _, err := os.Stat(cniPlugins); err != nil {
		missing = append(missing, cniPlugins)
	}
	if len(missing) > 0 {
		return fmt.Errorf("not installed: %s: run hack/install-packages", strings.Join(missing, " "))
	}
	return nil
}

// prepare sees that all programs and images are there, building what is not,
// and returns the images that the lab's own pods need.
func (l *Lab) prepare(ctx context.Context) ([]string, error) {
	images, err := seamarkImages(l.opts)
	if err != nil {
		return nil, err
	}
	programs, build := Needs(l.opts)
	if err := l.cache.Prepare(ctx, programs, build); err != nil {
		return nil, err
	}
	for _, name := range programs {
		if l.programs[name], err = l.cache.Binary(ctx, name); err != nil {
			return nil, err
		}
		if err := CheckVisible("SEAMARK_LAB_CACHE", l.programs[name]); err != nil {
			return nil, err
		}
	}
	for _, name := range build {
		archive, err := l.cache.Image(ctx, name)
		if err != nil {
			return nil, err
		}
		if name == pauseImage { // is loaded with the runtime
			l.pause = archive
			continue
		}
		images = append(images, archive)
	}
	return images, nil
}

// makeFolder makes the lab's folder.
func (l *Lab) makeFolder() error {
	if err := os.MkdirAll(filepath.Dir(l.dir), 0o755); err != nil {
		return err
	}
	return os.Mkdir(l.dir, 0o700)
}

func (l *Lab) up(ctx context.Context, listener *os.File, images []string) error {
	start := time.Now()
	if err := l.writeFolder(); err != nil {
		return err
	}
	if err := l.bootAll(ctx); err != nil {
		return err
	}
	l.progress.printf("%d hosts are on the network", len(l.hosts))
	if err := l.startAll(ctx, listener, images); err != nil {
		return err
	}
	if err := l.install(ctx); err != nil {
		return err
	}
	l.progress.printf("lab %s is up, in %.1fs", l.opts.Name, time.Since(start).Seconds())
	return nil
}

// writeFolder fills the lab's folder, with what it remembers first.
func (l *Lab) writeFolder() error {
	s := state{Options: l.opts, Server: l.server, Programs: l.programs, Pause: l.pause}
	return errors.Join(s.write(l.dir), l.linkPrograms(), l.credentials())
}

// bootAll makes all hosts, the switch first.
func (l *Lab) bootAll(ctx context.Context) error {
	if err := l.hosts["lan"].boot(); err != nil {
		return err
	}
	if err := l.prepareSwitch(ctx); err != nil {
		return err
	}
	var group errgroup.Group
	for _, h := range l.hosts {
		if h.Role != RoleSwitch {
			group.Go(h.boot)
		}
	}
	return group.Wait()
}

// startAll starts the daemons of all hosts: side by side what does not need the
// API server, then the kubelets, and waits for the nodes.
func (l *Lab) startAll(ctx context.Context, relay *os.File, images []string) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.startRelay(relay) })
	group.Go(func() error {
		if err := l.startControlPlane(groupCtx); err != nil {
			return err
		}
		l.progress.printf("the control plane is up")
		return l.createNodes(groupCtx)
	})
	for _, h := range l.hosts {
		switch h.Role {
		case RoleNode:
			group.Go(func() error { return l.startRuntime(groupCtx, h) })
		case RoleRouter, RoleRemote:
			group.Go(func() error { return l.startDaemons(groupCtx, h) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return l.startNodes(ctx, images)
}

// startNodes starts the kubelets, loads images while they register, and waits
// until all nodes are Ready.
func (l *Lab) startNodes(ctx context.Context, images []string) error {
	for _, node := range l.plan.Nodes() {
		if err := l.startKubelet(l.hosts[node.Name]); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.awaitNodes(ctx) })
	for _, image := range images {
		group.Go(func() error { return l.Load(ctx, image) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	l.progress.printf("%d nodes are Ready", l.opts.Nodes)
	return nil
}

// startDaemons starts what a host of its role runs.
func (l *Lab) startDaemons(ctx context.Context, h *Host) error {
	switch h.Role {
	case RoleControlPlane:
		if err := l.restartRelay(); err != nil {
			return err
		}
		return l.startControlPlane(ctx)
	case RoleNode:
		if err := l.startRuntime(ctx, h); err != nil {
			return err
		}
		return l.startKubelet(h)
	case RoleRouter:
		return l.startRouter(ctx, h)
	case RoleRemote:
		return h.start(dnsmasq())
	}
	return nil
}
