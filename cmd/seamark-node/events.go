package main

import (
	"fmt"
	"hash/fnv"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// eventCache is of how many objects client-go remembers the Events that were told, to count those that come again. Its 4096 are
// for whole clusters, and take megabytes.
const eventCache = 128

// recorder returns what writes Events in the name of this node's agent.
func (a *agent) recorder() record.EventRecorder {
	if a.events == nil {
		b := record.NewBroadcaster(record.WithCorrelatorOptions(record.CorrelatorOptions{LRUCacheSize: eventCache}))
		b.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: a.kube.CoreV1().Events("")})
		a.events = b.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "seamark-node", Host: a.config.node})
	}
	return a.events
}

// Events about the proxy's Problems: a mistake that concerns thousands of Services is told for some of them, and logged for
// all.
const (
	problemEvents     = 1 // in a second
	problemEventBurst = 25
)

// problemTeller makes Events of the proxy's Problems.
type problemTeller struct {
	node     string
	snapshot func() *cluster.Snapshot
	recorder record.EventRecorder
	limit    flowcontrol.PassiveRateLimiter
	log      *slog.Logger
}

func (a *agent) newProblemTeller() *problemTeller {
	return &problemTeller{
		node: a.config.node, snapshot: a.watcher.Source().Snapshot, recorder: a.recorder(),
		limit: flowcontrol.NewTokenBucketPassiveRateLimiter(problemEvents, problemEventBurst), log: a.config.log.With("part", "proxy"),
	}
}

// tell logs a Problem, and makes an Event of it: on the Service, or on the Node if it concerns none. Of what all nodes find
// wrong with a Service one tells.
func (t *problemTeller) tell(p ruleset.Problem) {
	t.log.Warn(p.Message, "service", p.Service, "reason", p.Reason)
	object := &corev1.ObjectReference{Kind: "Node", Name: t.node, UID: types.UID(t.node)} // as the kubelet writes it
	message := p.Message
	if p.Service != (cluster.Name{}) {
		snap := t.snapshot()
		svc := snap.Services[p.Service]
		if svc == nil {
			return
		}
		object = &corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: p.Service.Namespace, Name: p.Service.Name, UID: types.UID(svc.UID)}
		if p.OfNode() {
			message = fmt.Sprintf("node %s: %s", t.node, message)
		} else if teller(snap, p.Service) != t.node {
			return
		}
	}
	if t.limit.TryAccept() {
		t.recorder.Event(object, corev1.EventTypeWarning, p.Reason, message)
	}
}

// teller returns the ready node that tells of a Service: for each Service another one, by rendezvous hashing, and the same on
// every node.
func teller(snap *cluster.Snapshot, svc cluster.Name) string {
	best, most := "", uint64(0)
	for name, node := range snap.Nodes {
		if !node.Ready {
			continue
		}
		h := fnv.New64a()
		fmt.Fprint(h, svc, "\x00", name)
		if w := h.Sum64(); best == "" || w > most || w == most && name < best {
			best, most = name, w
		}
	}
	return best
}
