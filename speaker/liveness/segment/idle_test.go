package segment

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/liveness"
)

// BenchmarkIdle runs three nodes in this process, which hold their shares of the addresses, for a second each: what all
// three together spend on hearing each other, in milliseconds of processor time per second.
func BenchmarkIdle(b *testing.B) {
	for _, addresses := range []int{0, 10000} {
		b.Run(map[int]string{0: "0_addresses", 10000: "10000_addresses"}[addresses], func(b *testing.B) {
			l := newLAN(b, 3)
			shares := make([][]liveness.Want, 3)
			for i, a := 0, netip.MustParseAddr("10.1.0.0"); i < addresses; i, a = i+1, a.Next() {
				shares[i%3] = append(shares[i%3], liveness.Want{Addr: a})
			}
			for i, s := range l.segments {
				s.Set(shares[i])
				l.start(i)
			}
			for i, s := range l.segments {
				netlab.Eventually(b, "all is held", func() bool {
					for _, w := range shares[i] {
						if !s.MayAnswer(w.Addr) {
							return false
						}
					}
					return s.View().Majority
				})
			}
			time.Sleep(500 * time.Millisecond)
			before, sent := cpu(b), l.segments[0].Stats()
			n := 0
			for b.Loop() {
				time.Sleep(time.Second)
				n++
			}
			now := l.segments[0].Stats()
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/1000/float64(n), "cpu-ms/s")
			b.ReportMetric(float64(now.Sent-sent.Sent)/float64(n), "sent/s")
			b.ReportMetric(float64(now.SentBytes-sent.SentBytes)/float64(n), "bytes/s")
		})
	}
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
