package bgp

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/osrg/gobgp/v4/pkg/apiutil"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/plan"
)

// tag says that a peer gets a route, and with which attributes. gobgp keeps one path for each prefix; its tags are carried in
// large communities that the export policy looks for and takes off.
type tag struct{ attributes, peer uint32 }

func compareTags(a, b tag) int {
	return cmp.Or(cmp.Compare(a.peer, b.peer), cmp.Compare(a.attributes, b.attributes))
}

// tagger numbers peers by name and attributes by content. A number is never given to anything else.
type tagger struct {
	peers      map[string]uint32
	attributes map[string]uint32
	contents   map[uint32]*cluster.Attributes
}

func newTagger() *tagger {
	return &tagger{peers: map[string]uint32{}, attributes: map[string]uint32{}, contents: map[uint32]*cluster.Attributes{}}
}

func (t *tagger) peer(name string) uint32 {
	if t.peers[name] == 0 {
		t.peers[name] = uint32(len(t.peers) + 1)
	}
	return t.peers[name]
}

func (t *tagger) attributesOf(a *cluster.Attributes) uint32 {
	key := text(a)
	if t.attributes[key] == 0 {
		t.attributes[key] = uint32(len(t.attributes) + 1)
		t.contents[t.attributes[key]] = a
	}
	return t.attributes[key]
}

// text is the same for equal attributes only.
func text(a *cluster.Attributes) string {
	number := func(p *uint32) string {
		if p == nil {
			return "-"
		}
		return fmt.Sprint(*p)
	}
	return fmt.Sprint(a.Communities, a.LargeCommunities, a.ExtCommunities, number(a.LocalPref), number(a.MED), a.Prepend)
}

// tagged returns the tags of each route. Routes that share their exports share their tags.
func (t *tagger) tagged(routes []plan.Route) (tags map[netip.Prefix][]tag, used []tag) {
	tags = make(map[netip.Prefix][]tag, len(routes))
	shared := map[*plan.Export][]tag{}
	for _, r := range routes {
		first := &r.Exports[0]
		list, ok := shared[first]
		if !ok || len(list) != len(r.Exports) {
			list = make([]tag, 0, len(r.Exports))
			for _, e := range r.Exports {
				list = append(list, tag{t.attributesOf(e.Attributes), t.peer(e.Peer)})
			}
			shared[first] = list
			used = append(used, list...)
		}
		tags[r.Prefix] = list
	}
	slices.SortFunc(used, compareTags)
	return tags, slices.Compact(used)
}

// batchSize bounds how long gobgp is kept from its sessions' keepalives.
const batchSize = 1000

// setRoutes withdraws what is not wanted and originates what is new or changed. The policy knows old and new attributes while
// that lasts: gobgp asks it whether a peer has a route that is to be withdrawn.
func (s *Speaker) setRoutes(ctx context.Context, wanted []plan.Route) error {
	s.forgetWithdrawn()
	if len(wanted) > 0 && sameRoutes(s.originated, wanted) { // as mostly, and there may be ten thousand
		s.status.setRoutes(wanted)
		return s.setUsed(ctx, s.used)
	}
	s.originated = nil
	next, used := s.tags.tagged(wanted)
	both := slices.Concat(s.used, used)
	slices.SortFunc(both, compareTags)
	if err := s.setUsed(ctx, slices.Compact(both)); err != nil {
		return err
	}
	var gone []netip.Prefix
	var changed []*apiutil.Path
	for prefix := range s.routes {
		if _, ok := next[prefix]; !ok {
			gone = append(gone, prefix)
		}
	}
	for _, r := range wanted {
		if have, ok := s.routes[r.Prefix]; ok && slices.Equal(have, next[r.Prefix]) {
			continue
		}
		p, err := path(r.Prefix, next[r.Prefix])
		if err != nil {
			return err
		}
		changed = append(changed, p)
	}
	if err := s.withdraw(gone); err != nil {
		return fmt.Errorf("withdraw %d routes: %w", len(gone), err)
	}
	for batch := range slices.Chunk(changed, batchSize) {
		_, err := s.server.AddPath(apiutil.AddPathRequest{Paths: batch})
		s.changed = time.Now()
		if err != nil {
			return fmt.Errorf("originate %d routes: %w", len(changed), err)
		}
	}
	s.routes, s.used, s.originated = next, used, slices.Clone(wanted)
	s.status.setRoutes(wanted)
	return s.setUsed(ctx, used)
}

// withdraw withdraws routes and remembers that for sessions that begin.
func (s *Speaker) withdraw(gone []netip.Prefix) error {
	for batch := range slices.Chunk(gone, batchSize) {
		paths := make([]*apiutil.Path, 0, len(batch))
		for _, prefix := range batch {
			p, err := path(prefix, s.routes[prefix])
			if err != nil {
				return err
			}
			paths = append(paths, p)
		}
		if err := s.server.DeletePath(apiutil.DeletePathRequest{Paths: paths}); err != nil {
			return err
		}
		s.changed = time.Now()
		s.withdrawn = append(s.withdrawn, withdrawal{s.changed, batch})
	}
	return nil
}

func sameRoutes(a, b []plan.Route) bool {
	return slices.EqualFunc(a, b, func(x, y plan.Route) bool { return x.Prefix == y.Prefix && slices.Equal(x.Exports, y.Exports) })
}

func (s *Speaker) setUsed(ctx context.Context, used []tag) error {
	if err := s.setPolicies(ctx, used); err != nil {
		return fmt.Errorf("set the policies: %w", err)
	}
	return nil
}

// setPolicies has gobgp let out routes with these tags, each to its peer.
func (s *Speaker) setPolicies(ctx context.Context, used []tag) error {
	byTag := map[uint32]*peer{}
	for name, p := range s.peers {
		byTag[s.tags.peer(name)] = p
	}
	var statements []statement
	for _, t := range used {
		p, ok := byTag[t.peer]
		if !ok {
			continue
		}
		for _, f := range []cluster.Family{cluster.IPv4, cluster.IPv6} {
			if st, ok := export(p.Peer, f, t, s.tags.contents[t.attributes], p.extended); ok {
				statements = append(statements, st)
			}
		}
	}
	if slices.Equal(statements, s.statements) {
		return nil
	}
	err := s.server.SetPolicies(ctx, policies(statements))
	s.changed = time.Now()
	if err != nil {
		return err
	}
	s.statements = statements
	return nil
}
