package bench

import (
	"strings"
	"testing"
)

func TestFigure(t *testing.T) {
	for _, tt := range []struct {
		figure Figure
		want   string
	}{
		{Figure{"a", 9.876, "s", 10}, "a|9.88 s|≤ 10 s|met"},
		{Figure{"a", 10, "s", 10}, "a|10.0 s|≤ 10 s|met"},
		{Figure{"a", 10.06, "s", 10}, "a|10.1 s|≤ 10 s|MISSED"},
		{Figure{"a", 12345.6, "ms", 0}, "a|12346 ms||"},
		{Figure{"a", 0.0123, "ms", 0}, "a|0.012 ms||"},
		{Figure{"a", 0, "ms", 0}, "a|0 ms||"},
	} {
		if got := strings.Join(tt.figure.cells(), "|"); got != tt.want {
			t.Errorf("%+v: got %s, want %s", tt.figure, got, tt.want)
		}
	}
}
