package scenarios

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seamark-io/seamark/integration/probe"
)

// kubernetesGrace is after how long Kubernetes calls a silent node NotReady, unless it is told otherwise.
const kubernetesGrace = 50 * time.Second

// takeover is several times what heartbeats take to miss a node, and far below what the cluster takes to notice. Requests are sent on
// real connections, a third of them to the pod of the lost node, so by chance some more may fail in a row.
const takeover = time.Second

// When the node that owns a VIP loses its link, another takes the VIP over, without waiting for the cluster to notice, and
// clients are served again; every time, as soon as the pods of the lost node are endpoints no more. When the link is back, so
// is the node.
func TestOwnerLosesLink(t *testing.T) {
	needsSeamarkLB(t)
	ns := scenario(t)
	_, svc := ns.loadBalancer(3)
	client := on(t, "client")
	vip := vips(svc)[0]
	at := vipPort(svc, vip, "http")
	client.hears(at, "hostname")
	was := owner(t, vip)
	observed := client.observe(vips(svc)...)
	grace := cluster.Options().NodeGrace
	if grace == 0 {
		grace = kubernetesGrace
	}

	watching, stop := context.WithCancel(contextOf(t))
	defer stop()
	record := make(chan probe.Record, 1)
	var answered atomic.Int64
	go func() {
		record <- probe.Watch{
			From: client.netns(), URL: fmt.Sprintf("http://%s/hostname", at), Every: 50 * time.Millisecond, Timeout: 500 * time.Millisecond,
			Seen: func(r probe.Result) {
				if r.Err == nil {
					answered.Add(1)
				}
			},
		}.Run(watching)
	}()
	await(t, changeLimit, "the client is answered while all is well", func(context.Context) error {
		if answered.Load() < 5 {
			return errors.New("not yet")
		}
		return nil
	})
	if err := cluster.Cut(contextOf(t), was); err != nil {
		t.Fatal(err)
	}
	putBack(t, func(ctx context.Context) { _ = cluster.Heal(ctx, was) })
	// What the network does counts: the controller, which sums up who announces, may have been on the node that is cut off.
	var now string
	await(t, changeLimit, was+" is replaced", func(ctx context.Context) (err error) {
		if now, err = client.neighbour(ctx, vip); err == nil && now == was {
			err = fmt.Errorf("the client still finds the VIP on %s", now)
		}
		return err
	})
	await(t, grace+changeLimit, "clients are served every time", func(ctx context.Context) error {
		_, err := tally(requestsFor(3), func() (string, error) { return client.get(ctx, at, "hostname") })
		return err
	})
	stop()
	seen := <-record
	gap := seen.Longest()
	t.Logf("%s took over from %s; no answer for %s, %d of %d requests lost", now, was, gap.Length().Round(time.Millisecond), seen.Lost(), len(seen))
	if seen.Lost() == 0 {
		t.Error("no request was lost: the link was not cut, or the node did not own the VIP")
	}
	if gap.Length() > takeover {
		t.Errorf("no answer for %s; want at most %s", gap.Length(), takeover)
	}

	if err := cluster.Heal(contextOf(t), was); err != nil {
		t.Fatal(err)
	}
	awaitHealthy(t)
	client.hears(at, "hostname")
	neighbourIsOwner(t, client, vip)
	observed.oneAtATime(mostly)
	routed(t, vip, allNodes()...)
}

// awaitHealthy waits until all nodes are Ready and all have their BGP session.
func awaitHealthy(t *testing.T) {
	t.Helper()
	// A kubelet whose API server was gone for a minute may take more than another one to come back.
	await(t, 3*podLimit, "all nodes are Ready and have their BGP sessions", func(ctx context.Context) error {
		for _, name := range allNodes() {
			if err := nodeReady(ctx, name); err != nil {
				return err
			}
		}
		return peerEstablished(ctx, router)
	})
}
