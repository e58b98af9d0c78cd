package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// signalLimit is far beyond what a signal needs to have its effect.
const signalLimit = 10 * time.Second

// switchRules drop frames between pairs of ports. They are in the bridge
// family and name ports, not addresses, so that broadcasts and multicasts
// between the two are lost as well.
const switchRules = `
add table bridge lab
add set bridge lab cut { type ifname . ifname; }
add chain bridge lab forward { type filter hook forward priority 0; }
add rule bridge lab forward iifname . oifname @cut drop`

func (l *Lab) prepareSwitch(ctx context.Context) error {
	return l.nft(ctx, switchRules)
}

func (l *Lab) nft(ctx context.Context, commands string) error {
	lan := l.hosts["lan"]
	cmd := lan.Command(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(commands)
	_, err := lan.run(ctx, cmd)
	return err
}

// Cut pulls the host's cables: the switch side of its links goes down, and the
// host loses its carrier.
func (l *Lab) Cut(ctx context.Context, host string) error { return l.setLinks(host, false) }

// Heal undoes [Lab.Cut].
func (l *Lab) Heal(ctx context.Context, host string) error { return l.setLinks(host, true) }

func (l *Lab) setLinks(host string, up bool) error {
	h, err := l.wired(host)
	if err != nil {
		return err
	}
	lan, ns, err := netlinkIn(l.hosts["lan"].NetNS())
	if err != nil {
		return err
	}
	defer ns.Close()
	defer lan.Close()
	for _, link := range h.Links {
		port, err := lan.LinkByName(link.Port)
		if err != nil {
			return fmt.Errorf("port %s of the switch: %w", link.Port, err)
		}
		set := lan.LinkSetDown
		if up {
			set = lan.LinkSetUp
		}
		if err := set(port); err != nil {
			return fmt.Errorf("port %s of the switch: %w", link.Port, err)
		}
	}
	return nil
}

// CutBetween makes the switch drop every frame between two hosts, in both
// directions; both keep their carrier and reach all others. What a router
// forwards between them on different segments is not affected.
func (l *Lab) CutBetween(ctx context.Context, a, b string) error {
	pairs, err := l.portPairs(a, b)
	if err != nil {
		return err
	}
	return l.nft(ctx, "add element bridge lab cut "+elements(both(pairs)))
}

// CutOneWay is [Lab.CutBetween] for the frames from one host to the other:
// what the other sends arrives.
func (l *Lab) CutOneWay(ctx context.Context, from, to string) error {
	pairs, err := l.portPairs(from, to)
	if err != nil {
		return err
	}
	return l.nft(ctx, "add element bridge lab cut "+elements(pairs))
}

// LoseBetween makes the switch drop so many per cent of the frames between two
// hosts, chosen at random, in place of an earlier percentage.
func (l *Lab) LoseBetween(ctx context.Context, a, b string, percent int) error {
	pairs, err := l.portPairs(a, b)
	if err != nil {
		return err
	}
	var commands strings.Builder
	for _, p := range both(pairs) {
		fmt.Fprintf(&commands, `add chain bridge lab %[1]s { type filter hook forward priority 0; }
flush chain bridge lab %[1]s
add rule bridge lab %[1]s iifname %[2]q oifname %[3]q numgen random mod 100 < %[4]d drop
`, p.loss(), p.in, p.out, percent)
	}
	return l.nft(ctx, commands.String())
}

// HealBetween undoes [Lab.CutBetween], [Lab.CutOneWay] and [Lab.LoseBetween];
// it does nothing if there is nothing between the two.
func (l *Lab) HealBetween(ctx context.Context, a, b string) error {
	pairs, err := l.portPairs(a, b)
	if err != nil {
		return err
	}
	// Adding first makes the removal of what is not there succeed.
	all := elements(both(pairs))
	commands := "add element bridge lab cut " + all + "\ndelete element bridge lab cut " + all + "\n"
	for _, p := range both(pairs) {
		commands += fmt.Sprintf("add chain bridge lab %[1]s\nflush chain bridge lab %[1]s\ndelete chain bridge lab %[1]s\n", p.loss())
	}
	return l.nft(ctx, commands)
}

// portPair are the ports of the switch by which frames come and go.
type portPair struct{ in, out string }

// loss is the name of the chain that drops some of the frames.
func (p portPair) loss() string { return "loss-" + p.in + "-" + p.out }

// portPairs returns the ports of frames from one host to another on the
// segments that they share.
func (l *Lab) portPairs(from, to string) ([]portPair, error) {
	a, errA := l.wired(from)
	b, errB := l.wired(to)
	if err := errors.Join(errA, errB); err != nil {
		return nil, err
	}
	var pairs []portPair
	for _, la := range a.Links {
		for _, lb := range b.Links {
			if la.Segment == lb.Segment && la.Port != lb.Port {
				pairs = append(pairs, portPair{la.Port, lb.Port})
			}
		}
	}
	if len(pairs) == 0 {
		return nil, fmt.Errorf("%s and %s have no segment in common", from, to)
	}
	return pairs, nil
}

// both adds to each pair that of the other direction.
func both(pairs []portPair) (out []portPair) {
	for _, p := range pairs {
		out = append(out, p, portPair{p.out, p.in})
	}
	return out
}

// elements returns pairs as elements of an nft set.
func elements(pairs []portPair) string {
	var out []string
	for _, p := range pairs {
		out = append(out, fmt.Sprintf("%q . %q", p.in, p.out))
	}
	return "{ " + strings.Join(out, ", ") + " }"
}

// wired returns a host that has cables: any but the switch.
func (l *Lab) wired(name string) (*Host, error) {
	h, err := l.Host(name)
	if err == nil && h.Role == RoleSwitch {
		err = errors.New("lan is the switch itself: name a host that is connected to it")
	}
	return h, err
}

// Freeze stops all processes of that name on the host (SIGSTOP), also in pods,
// and returns when they have stopped.
func (l *Lab) Freeze(ctx context.Context, host, process string) error {
	return l.signal(ctx, host, process, unix.SIGSTOP, func(state byte) bool { return state == 'T' })
}

// Thaw undoes [Lab.Freeze].
func (l *Lab) Thaw(ctx context.Context, host, process string) error {
	return l.signal(ctx, host, process, unix.SIGCONT, func(state byte) bool { return state != 'T' })
}

// Kill kills all processes of that name on the host (SIGKILL), also in pods, and
// returns when they have ended. What runs in a pod is restarted by its kubelet,
// what the lab had started by [Lab.StartNode].
func (l *Lab) Kill(ctx context.Context, host, process string) error {
	return l.signal(ctx, host, process, unix.SIGKILL, func(byte) bool { return false })
}

// signal sends sig to the host's processes of a name and waits until each has
// ended or is in a state that effected accepts.
func (l *Lab) signal(ctx context.Context, host, process string, sig unix.Signal, effected func(state byte) bool) error {
	h, err := l.Host(host)
	if err != nil {
		return err
	}
	if _, err := h.find(process); err != nil {
		return err
	}
	var targets []int
	signalEach(func() []int {
		targets = nil
		found, _ := h.find(process) // none if all have ended
		for _, p := range found {
			targets = append(targets, p.PID)
		}
		return targets
	}, sig)
	ctx, cancel := context.WithTimeoutCause(ctx, signalLimit, fmt.Errorf("%s on %s takes no notice of %s", process, host, sig))
	defer cancel()
	return poll(ctx, 5*time.Millisecond, func() (bool, error) {
		alive := h.cgroup().pids()
		return !slices.ContainsFunc(targets, func(pid int) bool {
			now, _ := readProcess(pid)
			return slices.Contains(alive, pid) && !effected(now.State)
		}), nil
	})
}

// StopNode switches a host off, as if its power failed: its processes, its
// links and what the kernel knew are gone, its files stay. The switch and the
// control plane stay on.
func (l *Lab) StopNode(ctx context.Context, name string) error {
	h, err := l.Host(name)
	if err != nil {
		return err
	}
	if h.Role == RoleSwitch || h.Role == RoleControlPlane {
		return fmt.Errorf("%s cannot be switched off: the rest of the lab stands on it", name)
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return l.progress.during(ctx, offLimit, "switching off "+name, h.halt)
}

// StartNode switches a host on, and starts what of the lab's own does not run
// there. It does not wait for the node to become Ready.
func (l *Lab) StartNode(ctx context.Context, name string) error {
	h, err := l.Host(name)
	if err != nil {
		return err
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if h.holder() == 0 {
		if h.Role == RoleSwitch {
			return errors.New("lan, the switch, has lost its namespaces, and with them every link: take the lab down")
		}
		// Of a host whose holder was killed other things may be left.
		if err := l.progress.during(ctx, offLimit, "clearing "+name, h.halt); err != nil {
			return err
		}
		if err := h.boot(); err != nil {
			return err
		}
	}
	return l.startDaemons(ctx, h)
}

// lock takes the lock of a lab that is up.
func (l *Lab) lock(ctx context.Context) (unlock func(), err error) {
	if unlock, err = lockLab(ctx, l.dir, l.progress); err != nil {
		return nil, err
	}
	if _, err := readState(l.dir); err != nil {
		unlock()
		return nil, fmt.Errorf("%w: %s", ErrNotFound, l.opts.Name) // it was taken down meanwhile
	}
	return unlock, nil
}
