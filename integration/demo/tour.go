package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seamark-io/seamark/integration/lab"
	"github.com/seamark-io/seamark/integration/probe"
)

// tour is a demo under way.
type tour struct {
	printer
	lab      *lab.Lab // nil if it was not made
	complete bool     // whether it came up

	vips    []netip.Addr // of the Service
	owner   string       // the node that announces the first of them on the LAN
	summary []line
}

// line of the summary.
type line struct{ what, result string }

func (t *tour) note(what, format string, args ...any) {
	t.summary = append(t.summary, line{what, fmt.Sprintf(format, args...)})
}

func (t *tour) summarize() {
	t.heading("Summary")
	table := tabwriter.NewWriter(t.out, 0, 0, 3, ' ', 0)
	for _, l := range t.summary {
		fmt.Fprintf(table, "  %s\t%s\n", l.what, l.result)
	}
	_ = table.Flush()
	fmt.Fprintf(t.out, "\n%s\n", t.styled(green, fmt.Sprintf("All %d steps came out as they should, in %.0f s.", len(steps()), time.Since(t.start).Seconds())))
}

func (t *tour) lookAround() {
	t.heading("The cluster stays up")
	if !t.complete {
		t.say("It is not complete: bin/lab --name %s logs cp shows why.", Name)
	} else {
		t.say("    export KUBECONFIG=%s", t.lab.Kubeconfig())
		t.say("    export PATH=$PATH:%s", filepath.Join(filepath.Dir(t.lab.Kubeconfig()), "bin"))
		t.say("    kubectl apply -k examples                   brings the Service back")
		t.say("    kubectl get services,ippools,vips,bgppeers")
	}
	t.say(`    bin/lab --name %[1]s status                  the hosts and what runs on them
    bin/lab --name %[1]s exec client -- bash     a shell on the client; likewise on router, remote, node1 …
    bin/lab --name %[1]s exec router -- birdc    the router's BIRD
    bin/lab --name %[1]s cut node1               pulls a cable; heal puts it back
    bin/lab --name %[1]s logs node1              what the node's programs say

Remove it with make demo-down.`, Name)
}

// kubectl runs kubectl in the root of the checkout and prints it with its output.
func (t *tour) kubectl(ctx context.Context, args ...string) error {
	t.command("", quote(append([]string{"kubectl"}, args...)))
	cmd := t.lab.KubectlCommand(ctx, args...)
	cmd.Dir = t.lab.Options().Source
	return t.show(cmd)
}

// on runs a command on a host and prints it with its output, which it returns.
func (t *tour) on(ctx context.Context, host string, args ...string) (string, error) {
	t.command(host, quote(args))
	h, err := t.lab.Host(host)
	if err != nil {
		return "", err
	}
	out, err := h.Command(ctx, args...).CombinedOutput()
	t.output(orNothing(out))
	if err != nil {
		return string(out), fmt.Errorf("%s on %s: %w: %s", quote(args), host, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// failing runs a command on a host that must not succeed, and prints it with its output and exit status.
func (t *tour) failing(ctx context.Context, host string, args ...string) error {
	t.command(host, quote(args))
	h, err := t.lab.Host(host)
	if err != nil {
		return err
	}
	out, err := h.Command(ctx, args...).CombinedOutput()
	if len(out) > 0 {
		t.output(string(out))
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return fmt.Errorf("expected %s on %s to fail; seen: it succeeds: %s", quote(args), host, out)
	case !errors.As(err, &exit):
		return err
	}
	t.output(fmt.Sprintf("(exit status %d)", exit.ExitCode()))
	return nil
}

func (t *tour) show(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	t.output(orNothing(out))
	if err != nil {
		return fmt.Errorf("%s: %w: %s", quote(cmd.Args), err, out)
	}
	return nil
}

func orNothing(out []byte) string {
	if len(out) == 0 {
		return "(nothing)"
	}
	return string(out)
}

var plain = regexp.MustCompile(`^[-+,./:=@%\w\[\]]+$`)

// quote writes a command as one would type it.
func quote(args []string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		if quoted[i] = arg; !plain.MatchString(arg) || i > 0 && strings.ContainsAny(arg, "[]") {
			quoted[i] = "'" + arg + "'"
		}
	}
	return strings.Join(quoted, " ")
}

const (
	pollEvery   = 100 * time.Millisecond
	remindEvery = 3 * time.Second
)

// until waits for check to return nil, and says every few seconds what is missing.
func (t *tour) until(ctx context.Context, limit time.Duration, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	reminded, last := time.Now(), errors.New("nothing")
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		if time.Since(reminded) > remindEvery {
			reminded = time.Now()
			t.output(fmt.Sprintf("… waiting for %s: %v", what, last))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("expected %s within %s; seen: %w", what, limit, last)
		case <-time.After(pollEvery):
		}
	}
}

// read decodes the JSON of an object, or of a list, from the API server.
func (t *tour) read(ctx context.Context, into any, args ...string) error {
	out, err := t.lab.Kubectl(ctx, append(append([]string{"get"}, args...), "--output=json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out.Stdout), into)
}

// namespaceOf returns the network namespace of a host.
func (t *tour) namespaceOf(host string) probe.Namespace {
	h, err := t.lab.Host(host)
	if err != nil {
		return "" // in which nothing can be reached
	}
	return probe.Namespace(h.NetNS())
}

// answers waits until a host gets an answer of the Service at an address.
func (t *tour) answers(ctx context.Context, host string, vip netip.Addr) error {
	client := t.namespaceOf(host).HTTP(time.Second)
	return t.until(ctx, 20*time.Second, fmt.Sprintf("an answer of %s to %s", vip, host), func(context.Context) error {
		resp, err := client.Get(url(vip, "hostname"))
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	})
}

// silent waits until a host gets no answer at an address.
func (t *tour) silent(ctx context.Context, host string, vip netip.Addr) error {
	client := t.namespaceOf(host).HTTP(time.Second)
	return t.until(ctx, changeLimit, fmt.Sprintf("no answer of %s to %s", vip, host), func(context.Context) error {
		resp, err := client.Get(url(vip, "hostname"))
		if err == nil {
			return errors.Join(errors.New("it answers "+resp.Status), resp.Body.Close())
		}
		return nil
	})
}

// neighbour returns the node whose link-layer address the client knows a VIP by.
func (t *tour) neighbour(ctx context.Context, vip netip.Addr) (string, error) {
	client, err := t.lab.Host("client")
	if err != nil {
		return "", err
	}
	out, err := client.Exec(ctx, "ip", "neigh", "show", vip.String())
	if err != nil {
		return "", err
	}
	fields := strings.Fields(out.Stdout)
	if i := slices.Index(fields, "lladdr"); i >= 0 && i+1 < len(fields) {
		for _, node := range t.lab.Plan().Nodes() {
			if node.Links[0].MAC == fields[i+1] {
				return node.Name, nil
			}
		}
	}
	return "", fmt.Errorf("the client's neighbour entry is %q, of none of the nodes", strings.TrimSpace(out.Stdout))
}

// vip is what `kubectl get vips` shows of an address.
type vip struct {
	address string
	owners  []string // on the LAN
	bgp     []string // nodes that announce it to routers
}

// vipObjects reads the addresses that are given out.
func (t *tour) vipObjects(ctx context.Context) ([]vip, error) {
	var list struct {
		Items []struct {
			Spec   struct{ Address string }
			Status struct{ Owner, BGP string }
		}
	}
	if err := t.read(ctx, &list, "vips"); err != nil {
		return nil, err
	}
	var vips []vip
	for _, item := range list.Items {
		vips = append(vips, vip{item.Spec.Address, strings.FieldsFunc(item.Status.Owner, isComma), strings.FieldsFunc(item.Status.BGP, isComma)})
	}
	return vips, nil
}

func isComma(r rune) bool { return r == ',' }

// nodeAddresses reads the addresses that the nodes have on any interface.
func (t *tour) nodeAddresses(ctx context.Context) (map[netip.Addr]string, error) {
	nodes := make(map[netip.Addr]string)
	for _, node := range t.lab.Plan().Nodes() {
		h, err := t.lab.Host(node.Name)
		if err != nil {
			return nil, err
		}
		out, err := h.Exec(ctx, "ip", "-json", "address")
		if err != nil {
			return nil, err
		}
		var links []struct {
			AddrInfo []struct{ Local netip.Addr } `json:"addr_info"`
		}
		if err := json.Unmarshal([]byte(out.Stdout), &links); err != nil {
			return nil, fmt.Errorf("the addresses of %s: %w", node.Name, err)
		}
		for _, link := range links {
			for _, a := range link.AddrInfo {
				nodes[a.Local] = node.Name
			}
		}
	}
	return nodes, nil
}

// curl is a command that asks the Service at an address, and does not wait for long.
func curl(vip netip.Addr, path string) []string {
	return []string{"curl", "-sS", "--max-time", "2", url(vip, path)}
}

func url(vip netip.Addr, path string) string {
	return "http://" + strings.TrimSuffix(netip.AddrPortFrom(vip, 80).String(), ":80") + "/" + path
}

// ipFor is ip(8) for the family of an address.
func ipFor(vip netip.Addr, args ...string) []string {
	if vip.Is6() {
		return append([]string{"ip", "-6"}, args...)
	}
	return append([]string{"ip"}, args...)
}
