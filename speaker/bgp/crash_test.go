package bgp

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/plan"
)

const childMarker = "SEAMARK_TEST_BGP_CHILD"

func crashPeer() plan.Peer {
	p := peerOf("tor", "10.0.0.254:179")
	p.NextHop6 = netip.MustParseAddr("fd00::1")
	p.Session.RestartTime = 60
	return p
}

// TestChild is the agent that TestCrash kills.
func TestChild(t *testing.T) {
	if os.Getenv(childMarker) == "" {
		t.Skip("for TestCrash")
	}
	s := newQuietSpeaker(t)
	set(t, s, wanted([]plan.Peer{crashPeer()}, "192.0.2.1/32", "2001:db8::1/128"))
	select {}
}

// Both routers keep the routes of an agent that is killed (kill -9) until the next one is there, and never are without them.
func TestCrash(t *testing.T) {
	for name, router := range map[string]func(t *testing.T) (routes func() []string, has func(...string)){
		"BIRD": func(t *testing.T) (func() []string, func(...string)) {
			r := connected(t, 0)
			r.start(fmt.Sprintf(birdSession, birdRestart))
			return r.routes, r.has
		},
		"FRR": func(t *testing.T) (func() []string, func(...string)) {
			r := connectedFRR(t)
			r.start(fmt.Sprintf(frrNeighbor, "bgp graceful-restart"))
			return r.routes, r.has
		},
	} {
		t.Run(name, func(t *testing.T) {
			routes, has := router(t)
			child := exec.Command("/proc/self/exe", "-test.run=^TestChild$")
			child.Env = append(os.Environ(), childMarker+"=1")
			child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
			want := []string{"192.0.2.1/32 via 10.0.0.1", "2001:db8::1/128 via fd00::1"}
			has(want...)
			watched := watchRoutes(routes)
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = child.Wait()
			s := newSpeaker(t)
			set(t, s, wanted([]plan.Peer{crashPeer()}, "192.0.2.1/32", "2001:db8::1/128"))
			established(t, s, "tor")
			netlab.Eventually(t, "the routes are those of the new session", func() bool { return statusOf(s, "tor").PrefixesSent == 2 })
			has(want...)
			for _, seen := range watched() {
				if !slices.Equal(seen, want) {
					t.Errorf("the router had %v", seen)
				}
			}
		})
	}
}

// A node that is gone, and not only its agent, is no restart: nothing closes the connection, so the hold timer expires at the
// router, and the routes go with that. (RFC 8538, which would keep them even then, is not offered.)
func TestLostNode(t *testing.T) {
	for name, router := range map[string]func(t *testing.T) (h *netlab.Host, has func(...string)){
		"BIRD": func(t *testing.T) (*netlab.Host, func(...string)) {
			r := connected(t, 0)
			r.start(fmt.Sprintf(birdSession, birdRestart))
			return r.Host, r.has
		},
		"FRR": func(t *testing.T) (*netlab.Host, func(...string)) {
			r := connectedFRR(t)
			r.start(fmt.Sprintf(frrNeighbor, "bgp graceful-restart"))
			return r.Host, r.has
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, has := router(t)
			s := newSpeaker(t)
			p := crashPeer()
			p.Session.HoldTime, p.Session.KeepaliveTime = 3, 1
			set(t, s, wanted([]plan.Peer{p}, "192.0.2.1/32", "2001:db8::1/128"))
			has("192.0.2.1/32 via 10.0.0.1", "2001:db8::1/128 via fd00::1")
			h.Run("nft add table inet cut")
			h.Run("nft add chain inet cut in { type filter hook input priority 0 ; policy drop ; }")
			h.Run("nft add chain inet cut out { type filter hook output priority 0 ; policy drop ; }")
			h.Run("nft add rule inet cut in iif lo accept")
			h.Run("nft add rule inet cut out oif lo accept")
			has()
		})
	}
}
