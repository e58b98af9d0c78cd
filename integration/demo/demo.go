package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/seamark-io/seamark/integration/lab"
)

// Name of the demo's lab.
const Name = "demo"

// nodeGrace is after how long the cluster calls a silent node NotReady. Kubernetes' default, 50 s, is long to look at.
const nodeGrace = 8 * time.Second

// Options of a demo.
type Options struct {
	// Out receives the demo.
	Out io.Writer
	// Color says whether Out is a terminal that shows colours.
	Color bool
	// Keep leaves the lab up at the end, also after a failure.
	Keep bool
}

// Up makes the lab and shows every step. It returns an error that says what was expected and what was seen if a step does
// not come out as it should, and, unless it is to keep it, takes the lab down that it has made in any case.
func Up(ctx context.Context, o Options) (err error) {
	if _, err := lab.Open(Name); !errors.Is(err, lab.ErrNotFound) {
		return errors.New("there is a lab of an earlier demo, or remains of one: remove it with make demo-down")
	}
	t := &tour{printer: printer{out: o.Out, color: o.Color, start: time.Now()}}
	t.title("Seamark: Services of type LoadBalancer without a cloud")
	t.say("A real Kubernetes cluster on this machine: a control plane and three nodes, each in namespaces of its own;")
	t.say("a client on the nodes' LAN, a router that runs BIRD, and a remote host behind it.")
	t.drawing(topology)
	defer func() {
		err = errors.Join(err, t.leave(context.WithoutCancel(ctx), o.Keep))
	}()
	for i, s := range steps() {
		t.step(i+1, len(steps()), s.title)
		if err := s.run(ctx, t); err != nil {
			return fmt.Errorf("step %d of %d (%s): %w", i+1, len(steps()), s.title, err)
		}
	}
	t.summarize()
	return nil
}

// Down removes the lab of a demo that was to be kept.
func Down(ctx context.Context, out io.Writer) error { return lab.Down(ctx, Name, out) }

// leave ends a demo: it takes the lab down, or says how to look around in it.
func (t *tour) leave(ctx context.Context, keep bool) error {
	if t.lab == nil {
		return nil // nothing was made
	}
	if keep {
		t.lookAround()
		return nil
	}
	t.heading("Taking the lab down")
	return lab.Down(ctx, Name, t.indented())
}

// cluster makes the lab, as `lab up` does.
func cluster(ctx context.Context, t *tour) (err error) {
	options := lab.DefaultOptions()
	options.Name = Name
	options.NodeGrace = nodeGrace
	options.Images = []string{"agnhost"} // of the example's pods
	options.Progress = t.indented()
	if t.lab, err = lab.Up(ctx, options); err != nil {
		return err
	}
	t.complete = true
	if err := t.kubectl(ctx, "get", "nodes"); err != nil {
		return err
	}
	return t.kubectl(ctx, "get", "pods", "--namespace=seamark-system", "--output=wide")
}

const topology = `
     client 10.77.0.100      node1 10.77.0.11   node2 10.77.0.12   node3 10.77.0.13
        │                      │                  │                  │
   ─────┴──────────────────────┴────────┬─────────┴──────────────────┴───── LAN 10.77.0.0/24, fd77::/64
                                        │
                             router 10.77.0.1 (BIRD, AS 64512)
                                        │
                             remote 198.51.100.10`
