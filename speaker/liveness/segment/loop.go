package segment

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/internal/realtime"
	"github.com/seamark-io/seamark/speaker/liveness"
)

const (
	// batch is how many frames of a socket are taken before others get their turn, and breath how long the loop waits if there
	// are more: who floods a link gets no more than a share of a processor by it, though no other thread comes before this one.
	batch  = 64
	breath = time.Millisecond

	// forever is after every instant, but not so far that the kernel does not know it.
	forever liveness.Time = 1 << 60
)

// Loop sends and receives the heartbeats of all segments of a node. It waits for frames and deadlines in the kernel, on a thread
// before which no other comes (package realtime): a heartbeat that is late is as bad as none.
type Loop struct {
	log   *slog.Logger
	alarm *alarm

	policy atomic.Value // realtime.Policy of the thread

	mu   sync.Mutex
	runs []*run
}

// NewLoop returns a Loop without segments. It keeps one file descriptor as long as the process lives.
func NewLoop(log *slog.Logger) (*Loop, error) {
	a, err := newAlarm()
	if err != nil {
		return nil, err
	}
	return &Loop{log: log, alarm: a}, nil
}

// Run serves the segments that run, until ctx ends. One Run at a time; a segment that runs meanwhile without it is silent.
func (l *Loop) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, l.alarm.ring)()
	unlock, policy, err := realtime.LockThread()
	defer unlock()
	l.policy.Store(policy)
	if err != nil {
		l.log.Warn("heartbeats wait for a processor like everything else: this node may be given up while its processors are busy",
			"policy", string(policy), "err", err)
	}
	var w waiting
	for ctx.Err() == nil {
		l.mu.Lock()
		w.reset(l.alarm, l.runs)
		l.mu.Unlock()
		for w.same = true; w.same && ctx.Err() == nil; {
			if err := w.wait(); err != nil {
				return fmt.Errorf("wait for heartbeats: %w", err)
			}
			w.turns(l)
		}
	}
	return nil
}

// Policy is how the kernel schedules the thread of Run; empty before Run.
func (l *Loop) Policy() realtime.Policy {
	p, _ := l.policy.Load().(realtime.Policy)
	return p
}

// add has the loop serve a run, and remove has it forget it.
func (l *Loop) add(r *run) {
	l.mu.Lock()
	l.runs = append(slices.Clone(l.runs), r)
	l.mu.Unlock()
	l.alarm.ring()
}

func (l *Loop) remove(r *run) {
	l.mu.Lock()
	l.runs = slices.DeleteFunc(slices.Clone(l.runs), func(other *run) bool { return other == r })
	l.mu.Unlock()
	l.alarm.ring()
}

// waiting is what the loop's thread waits for.
type waiting struct {
	runs []*run
	// due is when something is due on each, 0 if that is not known yet; more says whether it is known to have frames.
	due  []liveness.Time
	more []bool
	fds  []unix.PollFd
	in   inbox
	// same: the runs, and when something is due on them, are still these.
	same bool
}

// inbox is where a frame is read to.
type inbox struct {
	buffer    [maxFrame]byte
	heartbeat liveness.Heartbeat
}

func (w *waiting) reset(a *alarm, runs []*run) {
	w.runs = runs
	w.due, w.more = append(w.due[:0], make([]liveness.Time, len(runs))...), append(w.more[:0], make([]bool, len(runs))...)
	w.fds = append(w.fds[:0], unix.PollFd{Fd: int32(a.fd), Events: unix.POLLIN})
	for _, r := range runs {
		w.fds = append(w.fds, unix.PollFd{Fd: int32(r.socket.prompt), Events: unix.POLLIN})
	}
}

// wait returns when something is due, a prompt frame has come or the alarm has rung. For segments with more frames it waits for a breath
// only, and not for the frames.
func (w *waiting) wait() error {
	next := forever
	now := Now()
	for i := range w.runs {
		next = min(next, w.due[i])
		w.fds[i+1].Events = unix.POLLIN
		if w.more[i] {
			next = min(next, now.Add(breath))
			w.fds[i+1].Events = 0
		}
		w.fds[i+1].Revents = 0
	}
	if err := realtime.Poll(w.fds, next.Sub(now)); err != nil && !errors.Is(err, unix.EINTR) {
		return err
	}
	return nil
}

// turns gives their turn to the segments that have a frame or something due.
func (w *waiting) turns(l *Loop) {
	if w.fds[0].Revents != 0 {
		l.alarm.heed()
		w.same = false
		return // to reset, after which all have their turn
	}
	now := Now()
	for i, r := range w.runs {
		overdue := now.Sub(w.due[i])
		if !w.more[i] && w.fds[i+1].Revents == 0 && overdue < 0 {
			continue
		}
		if overdue >= 0 && w.due[i] != 0 {
			r.segment.stats.delay(overdue)
		}
		w.due[i], w.more[i] = r.segment.turn(r, &w.in)
		if w.due[i] == forever {
			w.fds[i+1].Fd = -1 // which poll(2) ignores
		}
	}
}

// turn takes the frames that have come, before it looks who has not been heard for too long, and does what is due. It returns
// when something is due next, and whether there may be more frames.
func (s *Segment) turn(r *run, in *inbox) (due liveness.Time, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != r || r.over {
		return forever, false
	}
	r.sleeps = liveness.Never
	if r.failed == nil {
		more = s.drain(r, in)
	}
	if r.failed == nil {
		s.proceed(Now())
	}
	if r.failed != nil {
		r.over = true
		close(r.broken)
		return forever, false
	}
	r.sleeps = r.next
	return r.next, more
}

// drain takes a batch of frames of each socket, prompt ones first, and reports whether there may be more. No frame ends it. The
// lock is held.
func (s *Segment) drain(r *run, in *inbox) (more bool) {
	r.arrivals.begin()
	for _, fd := range []int{r.socket.prompt, r.socket.steady} {
		for left := batch; ; left-- {
			if left == 0 {
				more = true
				break
			}
			f, ok, err := r.socket.receive(fd, in.buffer[:])
			if err != nil {
				r.failed = fmt.Errorf("read from packet socket on %s: %w", s.cfg.Interface.Name, err)
				return false
			}
			if !ok {
				break
			}
			s.take(r, &f, &in.heartbeat)
		}
	}
	if !more {
		r.arrivals.end()
	}
	return more
}
