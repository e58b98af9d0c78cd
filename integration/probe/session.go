package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Session is one TCP connection for many HTTP requests. It never reconnects. It must not be used concurrently.
type Session struct {
	conn   net.Conn
	reader *bufio.Reader
}

// Connect makes a connection from inside a namespace.
func Connect(ctx context.Context, from Namespace, to netip.AddrPort) (*Session, error) {
	conn, err := from.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return &Session{conn, bufio.NewReader(conn)}, nil
}

// Get asks for a path and returns the answer, unless it takes longer than the timeout.
func (s *Session) Get(path string, timeout time.Duration) (string, error) {
	if err := s.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	request, err := http.NewRequest(http.MethodGet, "http://"+s.conn.RemoteAddr().String()+path, nil)
	if err != nil {
		return "", err
	}
	if err := request.Write(s.conn); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(s.reader, request)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// Keep asks for a path again and again until ctx ends, when it returns nil, or until a request fails, or the connection
// is found to end elsewhere than at first.
func (s *Session) Keep(ctx context.Context, path string, every, timeout time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	first := ""
	for {
		answer, err := s.Get(path, timeout)
		switch {
		case err != nil:
			return err
		case answer == "":
			return errors.New("empty answer")
		case first == "":
			first = answer
		case answer != first:
			return fmt.Errorf("answer of %q, at first it was of %q", answer, first)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Close closes the connection.
func (s *Session) Close() error { return s.conn.Close() }
