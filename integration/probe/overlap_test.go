package probe

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// answers makes Answers from words: a letter for who answers, and when, in milliseconds.
func answers(t *testing.T, words string) (out Answers) {
	t.Helper()
	for word := range strings.FieldsSeq(words) {
		var who byte
		var at int
		if _, err := fmt.Sscanf(word, "%c%d", &who, &at); err != nil {
			t.Fatalf("%q: %v", word, err)
		}
		out = append(out, Answer{time.UnixMilli(int64(at)), [6]byte{2, 0, 0, 0, 0, who - 'A'}})
	}
	return out
}

func TestOverlaps(t *testing.T) {
	for name, tt := range map[string]struct {
		heard string
		want  []string
	}{
		"nobody":                               {"", nil},
		"one":                                  {"A0 A20 A40 A60", nil},
		"it moves":                             {"A0 A20 A40 B200 B220 B240", nil},
		"it moves without a break":             {"A0 A20 A40 B41 B60 B80", nil},
		"it moves on":                          {"A0 A20 B21 B40 C41 C60 C80", nil},
		"there and back":                       {"A0 A20 A40 B200 B220 B240 A400 A420", nil},
		"there and back, without breaks":       {"A0 A20 B21 B40 B60 B80 B100 B119 A120 A140 A160", nil},
		"one answer was under way":             {"A0 A20 A40 B41 A42 B60 B80 B100", nil},
		"both have the request while it moves": {"A0 A20 A40 B40 B60 B80", nil},
		"for two requests": {"A0 A20 A40 B41 A60 B61 B80 B100",
			[]string{"02:00:00:00:00:00 and 02:00:00:00:00:01 answer in turn from 00:00:00.040 for 40ms, 2 times"}},
		"the new one first": {"A0 A20 B21 A40 B60 A61 B80 B100",
			[]string{"02:00:00:00:00:00 and 02:00:00:00:00:01 answer in turn from 00:00:00.020 for 40ms, 2 times"}},
		"two all the time": {"A0 B1 A20 B21 A40 B41 A60 B61 A80 B81 A100 B101 A120",
			[]string{"02:00:00:00:00:00 and 02:00:00:00:00:01 answer in turn from 00:00:00.000 for 100ms, 5 times"}},
		"the first one once more": {"A0 A20 A40 B200 B220 B240 A250 B261 B280 B300",
			[]string{"02:00:00:00:00:01 and 02:00:00:00:00:00 answer in turn from 00:00:00.240 for 21ms, 1 times"}},
		"a stranger once": {"A0 A20 A40 C45 A60 A80",
			[]string{"02:00:00:00:00:00 and 02:00:00:00:00:02 answer in turn from 00:00:00.040 for 20ms, 1 times"}},
		"three in turn": {"A0 B10 C20 A30 B40 C50",
			[]string{"02:00:00:00:00:00 and 02:00:00:00:00:01 and 02:00:00:00:00:02 answer in turn from 00:00:00.000 for 50ms, 3 times"}},
		"twice": {"A0 A20 C25 A40 A60 A80 A200 C205 A220",
			[]string{
				"02:00:00:00:00:00 and 02:00:00:00:00:02 answer in turn from 00:00:00.020 for 20ms, 1 times",
				"02:00:00:00:00:00 and 02:00:00:00:00:02 answer in turn from 00:00:00.200 for 20ms, 1 times",
			}},
	} {
		var got []string
		for _, o := range answers(t, tt.heard).Overlaps() {
			o.From, o.To = o.From.UTC(), o.To.UTC()
			got = append(got, o.String())
		}
		if fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s:\n got %q\nwant %q", name, got, tt.want)
		}
	}
}

func TestAnswersSince(t *testing.T) {
	all := answers(t, "A0 A20 B40 B60")
	if got := all.Since(time.UnixMilli(40)); len(got) != 2 || got[0] != all[2] || len(all) != 4 {
		t.Errorf("%v of %v", got, all)
	}
}

func TestMoves(t *testing.T) {
	moves := answers(t, "A0 A20 B40 B60 A80").Moves()
	for i := range moves {
		moves[i].At = moves[i].At.UTC()
	}
	want := "[02:00:00:00:00:01 answers after 02:00:00:00:00:00 at 00:00:00.040 02:00:00:00:00:00 answers after 02:00:00:00:00:01 at 00:00:00.080]"
	if got := fmt.Sprint(moves); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
