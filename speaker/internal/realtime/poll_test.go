package realtime

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Poll waits for files or until its time is over.
func TestPoll(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	files := []unix.PollFd{{Fd: int32(in.Fd()), Events: unix.POLLIN}}

	start := time.Now()
	if err := Poll(files, 20*time.Millisecond); err != nil || files[0].Revents != 0 {
		t.Errorf("nothing to read: %v, events %#x", err, files[0].Revents)
	}
	if d := time.Since(start); d < 20*time.Millisecond {
		t.Errorf("it waited for %v, not 20 ms", d)
	}
	if err := Poll(files, -time.Second); err != nil || files[0].Revents != 0 {
		t.Errorf("a time that is over: %v, events %#x", err, files[0].Revents)
	}
	time.AfterFunc(10*time.Millisecond, func() { _, _ = out.Write([]byte{1}) })
	if err := Poll(files, time.Minute); err != nil || files[0].Revents != unix.POLLIN {
		t.Errorf("something to read: %v, events %#x", err, files[0].Revents)
	}
	if err := Poll(nil, time.Millisecond); err != nil {
		t.Errorf("no files: %v", err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) }()
	const few = 64
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: few, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	if err := Poll(make([]unix.PollFd, few+1), 0); !errors.Is(err, unix.EINVAL) {
		t.Errorf("what the kernel refuses: %v, want %v", err, unix.EINVAL)
	}
}

// While threads wait in Poll, others have all processors, the stacks of those that wait can be looked at, and collections of
// garbage go on.
func TestPollAmongOthers(t *testing.T) {
	stop := make(chan struct{})
	polls := make(chan int)
	const threads = 8
	for range threads {
		go func() {
			runtime.LockOSThread()
			for n := 1; ; n++ {
				if err := Poll(nil, 200*time.Microsecond); err != nil && !errors.Is(err, unix.EINTR) {
					t.Error(err)
				}
				deep(50)
				select {
				case <-stop:
					polls <- n
					return
				default:
				}
			}
		}()
	}
	stacks := make([]byte, 1<<20)
	for range 50 {
		runtime.GC()
		runtime.Stack(stacks, true)
	}
	close(stop)
	for range threads { // that one does not come back, the test's time limit tells
		t.Logf("a thread waited %d times", <-polls)
	}
}

// deep has a stack that must grow.
func deep(n int) []byte {
	var frame [1024]byte
	if n == 0 {
		return []byte{1}
	}
	frame[n] = 1
	return deep(n - 1)[:frame[n]]
}
