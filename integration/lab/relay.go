package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// The relay carries kubectl's connections from the machine into the lab. A
// socket stays in the network namespace in which it was made: the listener is
// made here, in the machine's, and given to a process inside cp, whose own
// connections are then made there.

// buildRelay compiles the relay into the lab's folder. It has no dependencies
// beyond the standard library.
func (l *Lab) buildRelay(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", l.relayFile(), "./cmd/lab-relay")
	build.Dir = filepath.Join(l.opts.Source, "integration")
	_, err := output(build)
	return err
}

func (l *Lab) relayFile() string { return filepath.Join(l.dir, "lab-relay") }

// listen opens the relay's socket on a free port of 127.0.0.1.
func listen() (*os.File, string, error) {
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, "", fmt.Errorf("listen for the relay: %w", err)
	}
	defer listener.Close()
	file, err := listener.File() // a duplicate
	return file, listener.Addr().String(), err
}

func (l *Lab) startRelay(listener *os.File) error {
	cp := l.hosts["cp"]
	cmd := cp.command(context.Background(), "lab-relay", l.relayFile(), l.plan.API.String())
	cmd.ExtraFiles = []*os.File{listener}
	if err := cp.spawn(cmd, "lab-relay"); err != nil {
		return fmt.Errorf("start the relay: %w", err)
	}
	return nil
}
