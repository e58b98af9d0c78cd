package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/dns/notrack"
	"github.com/seamark-io/seamark/proxy"
)

// need is what a part needs of this node's kernel.
type need struct {
	// part is the part's name and flag.
	part string
	on   bool
	// probe returns what is missing.
	probe func() error
}

func needs(c *config) []need {
	return []need{
		{"speaker", c.speaker, probePacketSockets},
		{"proxy", c.proxy, func() error { return proxy.Probe(c.sysctlRoot) }},
		{"dns", c.dns, notrack.Probe},
	}
}

// probe returns all that is missing for the parts that are switched on.
func probe(needs []need) error {
	var errs []error
	for _, n := range needs {
		if !n.on {
			continue
		}
		if err := n.probe(); err != nil {
			errs = append(errs, fmt.Errorf("this node lacks what the %s needs (--%[1]s=false does without it):\n%w", n.part, err))
		}
	}
	return errors.Join(errs...)
}

// probePacketSockets: ARP and NDP are spoken through them.
func probePacketSockets() error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("packet sockets: %w: run it with CAP_NET_RAW", err)
	case err != nil:
		return fmt.Errorf("packet sockets: %w: the kernel needs CONFIG_PACKET", err)
	}
	return unix.Close(fd)
}
