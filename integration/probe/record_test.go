package probe

import (
	"errors"
	"testing"
	"time"
)

// record makes a Record of results that were asked for every 10 ms, from a word with '.' for an answer and 'x' for none.
func record(word string) Record {
	start := time.Unix(0, 0)
	var r Record
	for i, c := range word {
		result := Result{Sent: start.Add(time.Duration(i+1) * 10 * time.Millisecond)}
		if c == 'x' {
			result.Err = errors.New("timeout")
		}
		r = append(r, result)
	}
	return r
}

func TestGaps(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		word   string
		gaps   []time.Duration // 0: open on one side
		outage time.Duration
		lost   int
		// longest gap with both sides
		longest time.Duration
	}{
		{word: ""},
		{word: "...."},
		{word: ".x.", gaps: []time.Duration{20 * ms}, outage: 20 * ms, lost: 1, longest: 20 * ms},
		{word: "..xxx..", gaps: []time.Duration{40 * ms}, outage: 40 * ms, lost: 3, longest: 40 * ms},
		{word: ".xx..x..", gaps: []time.Duration{30 * ms, 20 * ms}, outage: 60 * ms, lost: 3, longest: 30 * ms},
		{word: "xx..", gaps: []time.Duration{0}, lost: 2},
		{word: "..xx", gaps: []time.Duration{0}, lost: 2},
		{word: "xxxx", gaps: []time.Duration{0}, lost: 4},
	} {
		r := record(tt.word)
		gaps := r.Gaps()
		if len(gaps) != len(tt.gaps) {
			t.Errorf("%q: %d gaps, want %d", tt.word, len(gaps), len(tt.gaps))
			continue
		}
		for i, g := range gaps {
			if g.Length() != tt.gaps[i] {
				t.Errorf("%q: gap %d is %s long, want %s", tt.word, i, g.Length(), tt.gaps[i])
			}
			if g.Err == nil || g.Lost == 0 {
				t.Errorf("%q: gap %d lost %d requests, with error %v", tt.word, i, g.Lost, g.Err)
			}
		}
		if got := r.Longest().Length(); got != tt.longest {
			t.Errorf("%q: longest gap %s, want %s", tt.word, got, tt.longest)
		}
		if o := r.Outage(); o.Length() != tt.outage || o.Lost != tt.lost {
			t.Errorf("%q: outage of %s with %d lost, want %s and %d", tt.word, o.Length(), o.Lost, tt.outage, tt.lost)
		}
	}
}

func TestSince(t *testing.T) {
	r := record(".x..x")
	for after, lost := range map[time.Duration]int{0: 2, 20 * time.Millisecond: 2, 21 * time.Millisecond: 1, time.Second: 0} {
		if got := r.Since(time.Unix(0, 0).Add(after)); got.Lost() != lost {
			t.Errorf("%d lost after %s, want %d", got.Lost(), after, lost)
		}
	}
	if len(r) != 5 || r.Lost() != 2 {
		t.Error("the record itself has changed")
	}
}
