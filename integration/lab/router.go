package lab

import (
	"context"
	"fmt"
	"time"
)

// birdSocket is where birdc looks by default.
const birdSocket = "/run/bird/bird.ctl"

func bird() daemon {
	return daemon{"bird", []string{"bird", "-f", "-c", "/etc/bird/bird.conf", "-s", birdSocket}}
}

// dnsmasq answers for lab.test, and NXDOMAIN for all other names: there is no
// Internet behind the router.
func dnsmasq() daemon {
	return daemon{"dnsmasq", []string{"dnsmasq", "--keep-in-foreground", "--conf-file=/etc/dnsmasq.conf"}}
}

func (l *Lab) startRouter(ctx context.Context, h *Host) error {
	if _, err := h.Exec(ctx, "mkdir", "-p", "/run/bird"); err != nil {
		return err
	}
	if err := h.start(bird()); err != nil {
		return err
	}
	return l.await(ctx, wait{
		what:  "BIRD on " + h.Name,
		limit: 10 * time.Second,
		watch: []watched{{h, "bird"}},
		check: func(ctx context.Context) (bool, string) {
			_, err := h.Exec(ctx, "birdc", "show", "status")
			return err == nil, fmt.Sprint(err)
		},
	})
}
