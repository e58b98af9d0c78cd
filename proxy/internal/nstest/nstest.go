package nstest

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Host is a network namespace with a thread of its own. It is gone when the test ends.
type Host struct {
	t    testing.TB
	jobs chan func()
	fd   *os.File
}

// New makes an empty host whose loopback interface is up. It skips the test when it does not run as root.
func New(t testing.TB) *Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	h := &Host{t: t, jobs: make(chan func())}
	ready := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			h.fd, err = os.Open("/proc/thread-self/ns/net")
		}
		ready <- err
		for job := range h.jobs {
			job()
		}
	}()
	if err := <-ready; err != nil {
		close(h.jobs)
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() {
		close(h.jobs)
		h.fd.Close()
	})
	h.Do(func() { h.up("lo") })
	return h
}

// Do runs f in the host and waits for it. Sockets stay in the host in which they were opened. f must not end the test
// (t.Fatal) and must not start goroutines that open sockets.
func (h *Host) Do(f func()) {
	done := make(chan any)
	h.jobs <- func() {
		defer func() { done <- recover() }()
		f()
	}
	if p := <-done; p != nil {
		panic(p)
	}
}

// Connect joins two hosts by a link with an interface of the given name and addresses on each side.
func Connect(a *Host, nameA string, addrsA []string, b *Host, nameB string, addrsB []string) {
	a.t.Helper()
	a.Do(func() {
		a.check("make a link", netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsFd(int(b.fd.Fd())),
		}))
	})
	a.Do(func() { a.configure(nameA, addrsA) })
	b.Do(func() { b.configure(nameB, addrsB) })
}

func (h *Host) configure(name string, addrs []string) {
	// No duplicate address detection, so that IPv6 addresses work at once.
	h.Sysctl("net/ipv6/conf/"+name+"/accept_dad", "0")
	link, err := netlink.LinkByName(name)
	h.check("find "+name, err)
	for _, s := range addrs {
		addr, err := netlink.ParseAddr(s)
		h.check("parse "+s, err)
		addr.Flags |= unix.IFA_F_NODAD
		h.check("add "+s, netlink.AddrAdd(link, addr))
	}
	h.up(name)
}

// Route sends traffic to a prefix through a gateway.
func (h *Host) Route(prefix, via string) {
	h.Do(func() {
		p := netip.MustParsePrefix(prefix)
		h.check("add a route to "+prefix, netlink.RouteAdd(&netlink.Route{
			Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}, Gw: net.ParseIP(via),
		}))
	})
}

// Sysctl sets a value under /proc/sys of the host. It must run inside Do.
func (h *Host) Sysctl(name, value string) {
	h.check("set "+name, os.WriteFile("/proc/sys/"+name, []byte(value), 0o644))
}

func (h *Host) up(name string) {
	link, err := netlink.LinkByName(name)
	h.check("find "+name, err)
	h.check("bring up "+name, netlink.LinkSetUp(link))
}

func (h *Host) check(what string, err error) {
	if err != nil {
		panic("nstest: " + what + ": " + err.Error())
	}
}

// Run runs f on another thread of the host, for f that blocks, and returns when f does.
func (h *Host) Run(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked, as above
		h.check("enter a namespace", unix.Setns(int(h.fd.Fd()), unix.CLONE_NEWNET))
		f()
	}()
	<-done
}
