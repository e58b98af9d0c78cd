package realtime

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Watchdog runs a function on a real-time thread when it was not put off in time: for goroutines that do something at
// certain instants, and whose host may have no processor for them. While they are in time the thread sleeps.
type Watchdog struct {
	fd int
	// expires is when it goes off.
	expires time.Time
}

// NewWatchdog returns one that has not been put off yet, and does not go off.
func NewWatchdog() (*Watchdog, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC) // blocking: the runtime does not wait for it, a thread does
	if err != nil {
		return nil, fmt.Errorf("make a timer: %w", err)
	}
	return &Watchdog{fd: fd}, nil
}

// PutOff has it go off at an instant. It keeps an earlier one that is not near, to save system calls; it is then put off in vain once, and
// asks again. It is not for several goroutines at once, and not for use after Stop.
func (w *Watchdog) PutOff(now, until time.Time) {
	if w.expires.After(now) && !w.expires.After(until) && w.expires.Sub(now) > until.Sub(now)/2 {
		return
	}
	w.expires = until
	w.set(max(until.Sub(now), 1))
}

// Stop ends Run.
func (w *Watchdog) Stop() { w.set(1) }

func (w *Watchdog) set(after time.Duration) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(after))}
	_ = unix.TimerfdSettime(w.fd, 0, &spec, nil) // fails only for what is no timer
}

// Run calls late, on a thread of its own, whenever it goes off, until late returns false. It returns the error of LockThread, if
// that had one, when it is over; late is called all the same.
func (w *Watchdog) Run(late func() bool) error {
	unlock, _, err := LockThread()
	defer unlock()
	defer func() { _ = unix.Close(w.fd) }()
	var count [8]byte
	for {
		if _, rerr := unix.Read(w.fd, count[:]); errors.Is(rerr, unix.EINTR) {
			continue
		}
		if !late() {
			return err
		}
	}
}
