package main

import "github.com/seamark-io/seamark/speaker"

func (a *agent) addSpeaker() error {
	c := a.config
	s, err := speaker.New(speaker.Config{
		Node:     c.node,
		Source:   a.watcher.Source(),
		Log:      c.log.With("part", "speaker"),
		Seamark:  a.seamark,
		Recorder: a.recorder(),
		Metrics:  a.registry,

		Namespace:  c.namespace,
		Leases:     a.kube.CoordinationV1(),
		Interval:   c.heartbeatInterval,
		Multiplier: c.heartbeatMultiplier,

		Takeover:  a.garbage.putOff,
		LeaveTime: c.leaveTime,
		Drain:     c.drainOnStop,
	})
	if err != nil {
		return err
	}
	a.parts = append(a.parts, &part{name: "speaker", run: s.Run, first: true, ready: s.Ready, alive: s.Alive})
	return nil
}
