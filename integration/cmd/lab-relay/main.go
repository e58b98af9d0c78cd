// Command lab-relay accepts connections on the listening socket that it got as
// file descriptor 3 and relays each to the given TCP address. The two may be in
// different network namespaces; see package lab.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: lab-relay ADDRESS:PORT 3<LISTENER")
		os.Exit(2)
	}
	err := relay(os.NewFile(3, "listener"), os.Args[1])
	fmt.Fprintln(os.Stderr, "lab-relay:", err)
	os.Exit(1)
}

func relay(socket *os.File, target string) error {
	listener, err := net.FileListener(socket)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
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

// splice connects client with target until both directions have ended.
func splice(client *net.TCPConn, target string) error {
	defer client.Close()
	conn, err := net.Dial("tcp", target)
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
