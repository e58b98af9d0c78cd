package realtime

import (
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Poll is ppoll(2) for a thread that waits for long, and often: it returns when one of the files is ready, the timeout is over
// or a signal has come (EINTR). A timeout that is not positive does not wait.
//
// Of an ordinary system call the runtime does not know that it will wait. It lets the thread keep what it needs to run Go code, and has
// its monitor look again and again, some fifty times in ten milliseconds, whether the call is over; for a thread that
// waits thirty times a second that costs about as much as all else that it does. Here it is told.
func Poll(files []unix.PollFd, timeout time.Duration) error {
	spec := unix.NsecToTimespec(int64(max(timeout, 0)))
	errno := ppoll(unsafe.SliceData(files), len(files), &spec)
	runtime.KeepAlive(files)
	if errno != 0 {
		return errno
	}
	return nil
}

// ppoll is what [syscall.Syscall6] is, but for the first line: between the two calls of the runtime no Go code may run that needs
// more stack, or that the race detector looks at.
//
//go:nosplit
//go:norace
func ppoll(files *unix.PollFd, n int, timeout *unix.Timespec) syscall.Errno {
	entersyscallblock()
	_, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL,
		uintptr(unsafe.Pointer(files)), uintptr(n), uintptr(unsafe.Pointer(timeout)), 0, 0, 0)
	exitsyscall()
	return errno
}

// The runtime keeps these two as they are for who links to them by name (https://go.dev/issue/67401).

//go:linkname entersyscallblock runtime.entersyscallblock
func entersyscallblock()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()
