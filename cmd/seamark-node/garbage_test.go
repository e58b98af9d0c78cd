package main

import (
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"testing/synctest"
	"time"
)

func gcPercent() int {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64())
}

func TestCollectionsArePutOff(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	synctest.Test(t, func(t *testing.T) {
		var g garbage
		expect := func(when string, want int) {
			t.Helper()
			synctest.Wait()
			if got := gcPercent(); got != want {
				t.Errorf("%s: GOGC is %d, want %d", when, got, want)
			}
		}
		g.putOff(time.Second)
		expect("put off", heldPercent)
		time.Sleep(600 * time.Millisecond)
		g.putOff(time.Second)
		time.Sleep(600 * time.Millisecond)
		expect("put off again", heldPercent)
		time.Sleep(500 * time.Millisecond)
		expect("after that", 50)
		g.putOff(time.Second)
		expect("another time", heldPercent)
		time.Sleep(2 * time.Second)
		expect("after another time", 50)
	})
}

// Whoever has less collected than that, by GOGC, keeps it.
func TestWhoHasChosenKeepsIt(t *testing.T) {
	for _, percent := range []int{heldPercent, 1000, -1} {
		before := debug.SetGCPercent(percent)
		var g garbage
		g.putOff(time.Hour)
		if g.restore != nil {
			t.Errorf("GOGC %d: something is put off", percent)
		}
		if got := debug.SetGCPercent(before); got != percent {
			t.Errorf("GOGC %d has become %d", percent, got)
		}
	}
}
