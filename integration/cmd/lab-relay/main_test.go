package main

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
)

// short is a listener that is short of file descriptors at first.
type short struct {
	net.Listener
	failures int
}

func (s *short) Accept() (net.Conn, error) {
	if s.failures > 0 {
		s.failures--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return s.Listener.Accept()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// Both directions are relayed, each to its end, also after connections could not be accepted for a while; when nothing can
// be accepted any more the relay ends.
func TestRelay(t *testing.T) {
	server, front := listen(t), listen(t)
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			asked, _ := io.ReadAll(conn)
			_, _ = conn.Write(append([]byte("you said "), asked...))
			conn.Close()
		}
	}()
	ended := make(chan error, 1)
	go func() { ended <- relay(&short{front, 2}, server.Addr().String()) }()

	conn, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("this")); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); string(answer) != "you said this" {
		t.Errorf("got %q, %v", answer, err)
	}
	front.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("ended with %v", err)
	}
}
