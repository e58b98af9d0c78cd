package nfnl

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/proxy/internal/nstest"
)

// A connection can be used again however long after the last time.
func TestConnAfterAWhile(t *testing.T) {
	h := nstest.New(t)
	var c *Conn
	var err error
	h.Do(func() { c, err = Dial() })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	dump := func() error {
		w := Writer{Conntrack: true}
		w.Message(1 /* IPCTNL_MSG_CT_GET */, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, unix.AF_UNSPEC)
		w.Finish()
		return c.Dump(&w, func([]byte) {})
	}
	if err := dump(); err != nil {
		t.Fatal(err)
	}
	// As the deadline of the last answer is when that was long ago.
	if err := c.conn.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := dump(); err != nil {
		t.Errorf("the second time: %v", err)
	}
}
