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
		{Figure{"a", 9.876, "s", 10, 0}, "a|9.88 s|≤ 10 s|met"},
		{Figure{"a", 10, "s", 10, 0}, "a|10.0 s|≤ 10 s|met"},
		{Figure{"a", 10.06, "s", 10, 0}, "a|10.1 s|≤ 10 s|MISSED"},
		{Figure{"a", 12345.6, "ms", 0, 0}, "a|12346 ms||"},
		{Figure{"a", 0.0123, "ms", 0, 0}, "a|0.012 ms||"},
		{Figure{"a", 0, "ms", 0, 0}, "a|0 ms||"},
		{Figure{"a", 15, "s", 10, 2}, "a|15.0 s|≤ 10 s, here 20.0 s|met here"},
		{Figure{"a", 9, "s", 10, 2}, "a|9.00 s|≤ 10 s, here 20.0 s|met"},
		{Figure{"a", 21, "s", 10, 2}, "a|21.0 s|≤ 10 s, here 20.0 s|MISSED"},
		{Figure{"a", 6, "s", 10, 0.5}, "a|6.00 s|≤ 10 s, here 5.00 s|MISSED"},
	} {
		if got := strings.Join(tt.figure.cells(), "|"); got != tt.want {
			t.Errorf("%+v: got %s, want %s", tt.figure, got, tt.want)
		}
	}
}
