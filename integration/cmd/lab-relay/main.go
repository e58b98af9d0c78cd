// Command lab-relay accepts connections on the listening socket that it got as
// file descriptor 3 and relays each to the given TCP address. The two may be in
// different network namespaces; see package lab.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: lab-relay ADDRESS:PORT 3<LISTENER")
		os.Exit(2)
	}
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err == nil {
		err = relay(listener, os.Args[1])
	}
	fmt.Fprintln(os.Stderr, "lab-relay:", err)
	os.Exit(1)
}

const (
	// pause is the time until the next attempt, when a connection could not be
	// accepted for want of something.
	pause = 100 * time.Millisecond
	// dialLimit is far beyond what a connection inside one machine needs.
	dialLimit = 10 * time.Second
)

// relay serves connections until none can be accepted any more.
func relay(listener net.Listener, target string) error {
	for {
		conn, err := listener.Accept()
		if temporary(err) {
			fmt.Fprintln(os.Stderr, "lab-relay:", err)
			time.Sleep(pause)
			continue
		}
		if err != nil {
			return err
		}
		go func() {
			if err := splice(conn.(*net.TCPConn), target); err != nil {
				fmt.Fprintln(os.Stderr, "lab-relay:", err)
			}
		}()
	}
}

// temporary reports whether err is one of those of accept(2) that pass.
func temporary(err error) bool {
	for _, e := range []syscall.Errno{syscall.ECONNABORTED, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// splice connects client with target until both directions have ended.
func splice(client *net.TCPConn, target string) error {
	defer client.Close()
	conn, err := net.DialTimeout("tcp", target, dialLimit)
	if err != nil {
		return err
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		transfer(server, client)
	}()
	transfer(client, server)
	<-done
	return nil
}

// transfer passes on what src sends, and its end. If dst is gone src is told by
// the end of the connection.
func transfer(dst, src *net.TCPConn) {
	if _, err := io.Copy(dst, src); err != nil {
		_ = src.Close()
	}
	_ = dst.CloseWrite()
}
