package main

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/seamark-io/seamark/speaker"
)

func (a *agent) addSpeaker() error {
	c := a.config
	events := record.NewBroadcaster()
	events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: a.kube.CoreV1().Events("")})
	s, err := speaker.New(speaker.Config{
		Node:     c.node,
		Source:   a.watcher.Source(),
		Log:      c.log.With("part", "speaker"),
		Seamark:  a.seamark,
		Recorder: events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "seamark-node", Host: c.node}),
		Metrics:  a.registry,

		LeaveTime: c.leaveTime,
		Drain:     c.drainOnStop,
	})
	if err != nil {
		return err
	}
	a.parts = append(a.parts, &part{name: "speaker", run: s.Run, ready: s.Ready})
	return nil
}
