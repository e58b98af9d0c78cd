package main

import (
	"testing"
	"time"
)

func TestProcsFor(t *testing.T) {
	for _, tt := range []struct {
		name string
		cpus int
		used time.Duration
		want int
	}{
		{"a lab that was up before", 2, 0, 4},
		{"fast", 2, 60 * time.Second, 10},
		{"slow", 2, 2 * time.Minute, 4},
		{"one slow processor", 1, 2 * time.Minute, 2},
		{"many fast ones", 16, 60 * time.Second, 12},
		{"many slow ones", 16, 2 * time.Minute, 12},
	} {
		if got := procsFor(tt.cpus, tt.used); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
