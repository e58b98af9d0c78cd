package segment

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// alarm wakes a Loop, which waits in the kernel (eventfd(2)).
type alarm struct{ fd int }

func newAlarm() (*alarm, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	return &alarm{fd}, nil
}

// ring has the next wait, or the one that goes on, end at once. It can fail only after it has rung 2⁶⁴ times unheard.
func (a *alarm) ring() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(a.fd, one[:])
}

// heed forgets what has rung.
func (a *alarm) heed() {
	var count [8]byte
	_, _ = unix.Read(a.fd, count[:])
}
