package lab

import (
	"context"
	"fmt"
	"net"
	"os"
)

// The relay carries kubectl's connections from the machine into the lab. A
// socket stays in the network namespace in which it was made: the listener is
// made here, in the machine's, and given to a process inside cp, whose own
// connections are then made there.

const relayProgram = "lab-relay"

// listen opens the relay's socket on an address of the machine. With port 0 the
// port is any that is free.
func listen(address string) (*os.File, string, error) {
	listener, err := net.Listen("tcp4", address)
	if err != nil {
		return nil, "", fmt.Errorf("listen for the relay: %w", err)
	}
	defer listener.Close()
	file, err := listener.(*net.TCPListener).File() // a duplicate
	return file, listener.Addr().String(), err
}

func (l *Lab) startRelay(listener *os.File) error {
	cp := l.hosts["cp"]
	cmd := cp.command(context.Background(), relayProgram, relayProgram, l.plan.API.String())
	cmd.ExtraFiles = []*os.File{listener}
	if err := cp.spawn(cmd, relayProgram); err != nil {
		return fmt.Errorf("start the relay: %w", err)
	}
	return nil
}

// restartRelay starts the relay again, at the same address, unless it runs.
func (l *Lab) restartRelay() error {
	if l.hosts["cp"].running(relayProgram) {
		return nil
	}
	listener, _, err := listen(l.server)
	if err != nil {
		return err
	}
	defer listener.Close()
	return l.startRelay(listener)
}
