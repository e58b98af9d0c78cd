package pace

import (
	"testing"
	"time"
)

func TestPulse(t *testing.T) {
	var p Pulse
	start := time.Now()
	if err := p.Stuck(start.Add(time.Hour), time.Minute); err != nil {
		t.Errorf("a loop that has not begun: %v", err)
	}
	end := p.Begin(start)
	if err := p.Stuck(start.Add(time.Minute), time.Minute); err != nil {
		t.Errorf("as long as it may: %v", err)
	}
	if p.Stuck(start.Add(time.Minute+1), time.Minute) == nil {
		t.Error("longer than it may: nothing")
	}
	end()
	if err := p.Stuck(start.Add(time.Hour), time.Minute); err != nil {
		t.Errorf("after the end: %v", err)
	}
}
