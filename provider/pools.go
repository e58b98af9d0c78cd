package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/seamark-io/seamark/api/client"
	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/cluster/watch"
	"github.com/seamark-io/seamark/provider/ipam"
)

// loadPools judges all pools anew: a change of one can bring another into force.
func (p *Provider) loadPools() {
	pools := list[*v1alpha1.IPPool](p.pools)
	candidates := make([]ipam.Candidate, len(pools))
	for i, pool := range pools {
		candidates[i] = candidate(pool)
	}
	nodes, err := p.nodes.List(labels.Everything())
	if err != nil {
		nodes = nil // listers have no errors
	}
	valid, verdicts := ipam.Judge(candidates, foreign(nodes, list[*networkingv1.ServiceCIDR](p.serviceCIDRs), pools))
	refused := map[string]ipam.Refused{}
	for _, c := range candidates {
		if v := verdicts[c.Name]; v.Refused != "" {
			refused[c.Name] = ipam.Refused{Why: v.Refused, Retain: c.Retain, Deleted: v.Deleted}
		}
	}
	p.alloc.setPools(valid, refused)
	p.verdicts.Store(&verdicts)
	for _, pool := range pools {
		p.poolStatus.AddAfter(pool.Name, settlePool)
	}
}

func candidate(pool *v1alpha1.IPPool) ipam.Candidate {
	c := ipam.Candidate{Addresses: pool.Spec.Addresses, Created: pool.CreationTimestamp.Time, Deleted: pool.DeletionTimestamp != nil}
	c.Pool, c.Problem = watch.Pool(pool)
	c.Problem = errors.Join(c.Problem, selectorProblems(pool))
	return c
}

// selectorProblems says what is wrong with the selectors of a pool. One that cannot be read must not select as if it said
// something else.
func selectorProblems(pool *v1alpha1.IPPool) error {
	var problems []error
	check := func(field string, s *metav1.LabelSelector) {
		if _, err := metav1.LabelSelectorAsSelector(s); err != nil {
			problems = append(problems, fmt.Errorf("spec.%s: %w: the operators are In and NotIn, with values, and Exists and DoesNotExist, without", field, err))
		}
	}
	check("serviceSelector", pool.Spec.ServiceSelector)
	check("namespaceSelector", pool.Spec.NamespaceSelector)
	if an := pool.Spec.Announce; an != nil && an.ARP != nil {
		check("announce.arp.nodeSelector", an.ARP.NodeSelector)
	}
	if an := pool.Spec.Announce; an != nil && an.BGP != nil {
		check("announce.bgp.nodeSelector", an.BGP.NodeSelector)
	}
	return errors.Join(problems...)
}

// syncPool keeps the finalizer and the status of a pool. The finalizer comes first and does not wait for the counts to settle, nor
// for the verdict on the pool: the status follows when the watch shows the finalizer.
func (p *Provider) syncPool(ctx context.Context, name string) error {
	pool, ok := get[*v1alpha1.IPPool](p.pools, name)
	if !ok {
		return nil
	}
	v4, v6, offenders := p.alloc.poolUse(name)
	if wrote, err := p.syncFinalizer(ctx, pool, v4.Used+v6.Used > 0); wrote || err != nil {
		return err
	}
	status := poolStatus(pool, (*p.verdicts.Load())[name], v4, v6, offenders)
	shown := pool.Status
	shown.NodeAddresses = nil
	if equality.Semantic.DeepEqual(status, shown) {
		return nil
	}
	return client.ApplyStatus(ctx, p.Seamark.IPPools, FieldManager, name, applyPool{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "IPPool"},
		Metadata: map[string]string{"name": name},
		Status:   status,
	})
}

// lacksPoolFinalizer reports whether a pool is to have the finalizer and has not.
func lacksPoolFinalizer(pool *v1alpha1.IPPool) bool {
	return pool.DeletionTimestamp == nil && !slices.Contains(pool.Finalizers, v1alpha1.PoolFinalizer)
}

// syncFinalizer puts the finalizer on a pool, and takes it off one that is to be deleted and not in use any more. It
// reports whether it did, or the pool is gone.
func (p *Provider) syncFinalizer(ctx context.Context, pool *v1alpha1.IPPool, used bool) (wrote bool, err error) {
	finalizers := slices.Clone(pool.Finalizers)
	has := slices.Contains(finalizers, v1alpha1.PoolFinalizer)
	switch {
	case lacksPoolFinalizer(pool):
		finalizers = append(finalizers, v1alpha1.PoolFinalizer)
	case has && pool.DeletionTimestamp != nil && !used:
		finalizers = slices.DeleteFunc(finalizers, func(f string) bool { return f == v1alpha1.PoolFinalizer })
	default:
		return false, nil
	}
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": pool.ResourceVersion, "finalizers": finalizers}})
	if err != nil {
		return false, err
	}
	_, err = p.Seamark.IPPools.Patch(ctx, pool.Name, types.MergePatchType, data, metav1.PatchOptions{FieldManager: FieldManager})
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("write the finalizer of IPPool %s: %w", pool.Name, err)
	}
	return true, nil
}

// poolUse returns a pool's counts and, the lowest first, the addresses in use or reserved for a Service that it would not give out
// any more.
func (a *allocator) poolUse(name string) (ipv4, ipv6 ipam.Counts, offenders []offender) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ipv4, ipv6 = a.index.CountsOf(name)
	for addr, c := range a.index.Claims() {
		kept := len(c.Users) > 0 || c.ReservedFor != cluster.Name{}
		if c.Pool == name && kept && !a.index.Gives(name, addr) {
			offenders = append(offenders, offender{addr, usersOf(*c), a.index.PoolOf(addr) == name})
		}
	}
	slices.SortFunc(offenders, func(a, b offender) int { return a.addr.Compare(b.addr) })
	return ipv4, ipv6, offenders
}

type offender struct {
	addr    netip.Addr
	users   string
	leftOut bool // by avoidBuggyIPs
}

// maxOffenders is that of IPPool.status.offenders.
const maxOffenders = 100

// poolStatus returns the status that a pool should have, without what nodes write.
func poolStatus(pool *v1alpha1.IPPool, v ipam.Verdict, v4, v6 ipam.Counts, offenders []offender) v1alpha1.IPPoolStatus {
	status := v1alpha1.IPPoolStatus{
		Total: sum(v4.Total, v6.Total), Used: sum(v4.Used, v6.Used), Reserved: sum(v4.Reserved, v6.Reserved), Free: sum(v4.Free, v6.Free),
		IPv4: countsOf(v4), IPv6: countsOf(v6), FreeText: freeText(v4, v6), AddressesText: short(pool.Spec.Addresses),
		ObservedGeneration: pool.Generation,
		Conditions:         slices.Clone(pool.Status.Conditions),
	}
	for _, o := range offenders[:min(len(offenders), maxOffenders)] {
		reason := v1alpha1.OffenderNotInPool
		switch {
		case v.Deleted:
			reason = v1alpha1.OffenderPoolDeleted
		case o.leftOut:
			reason = v1alpha1.OffenderBuggyIP
		case slices.ContainsFunc(v.Overlaps, func(p ipam.Overlap) bool { return p.Contains(o.addr) }):
			reason = v1alpha1.OffenderOverlap
		}
		status.Offenders = append(status.Offenders, v1alpha1.PoolOffender{Address: o.addr.String(), Services: o.users, Reason: reason})
	}
	for _, c := range poolConditions(pool, v, len(offenders)) {
		c.ObservedGeneration = pool.Generation
		meta.SetStatusCondition(&status.Conditions, c)
	}
	return status
}

func poolConditions(pool *v1alpha1.IPPool, v ipam.Verdict, offenders int) []metav1.Condition {
	ready := metav1.Condition{Type: v1alpha1.PoolReady, Status: metav1.ConditionTrue, Reason: v1alpha1.PoolReasonValid, Message: "gives out addresses"}
	overlaps := metav1.Condition{Type: v1alpha1.PoolOverlaps, Status: metav1.ConditionFalse, Reason: v1alpha1.PoolReasonNoOverlap}
	if len(v.Overlaps) > 0 {
		overlaps.Status, overlaps.Reason, overlaps.Message = metav1.ConditionTrue, v1alpha1.PoolReasonOverlap, ipam.Describe(v.Overlaps)
	}
	switch {
	case v.Deleted:
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1alpha1.PoolReasonDeleted, v.Refused
	case v.Invalid:
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1alpha1.PoolReasonInvalidSpec, v.Refused
	case v.Refused != "" && len(v.Overlaps) > 0:
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1alpha1.PoolReasonOverlap, v.Refused
	case v.Refused != "":
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1alpha1.PoolReasonInvalidAddresses, v.Refused
	case pool.Spec.State == v1alpha1.PoolDraining:
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1alpha1.PoolReasonDraining, "draining: nothing new is given out"
	}
	if offenders > 0 {
		ready.Message += fmt.Sprintf("; %d of its addresses in use or reserved would not be given out any more and stay: see status.offenders", offenders)
	}
	return []metav1.Condition{ready, overlaps}
}

// applyPool is an IPPool of which only the status is meant.
type applyPool struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        map[string]string     `json:"metadata"`
	Status          v1alpha1.IPPoolStatus `json:"status"`
}

// countsOf returns nil for a family that the pool lacks.
func countsOf(c ipam.Counts) *v1alpha1.AddressCounts {
	if c == (ipam.Counts{}) {
		return nil
	}
	return &v1alpha1.AddressCounts{Total: c.Total, Used: c.Used, Reserved: c.Reserved, Free: c.Free}
}

// freeText writes how many addresses are free as a person would: nobody reads a number of 19 digits.
func freeText(v4, v6 ipam.Counts) string {
	var parts []string
	for _, f := range []struct {
		ipam.Counts
		family cluster.Family
	}{{v4, cluster.IPv4}, {v6, cluster.IPv6}} {
		switch {
		case f.Counts == ipam.Counts{}:
		case f.Free < 1<<32:
			parts = append(parts, fmt.Sprintf("%d %s", f.Free, f.family))
		case f.Free == math.MaxInt64:
			parts = append(parts, fmt.Sprintf("2^63+ %s", f.family))
		default:
			parts = append(parts, fmt.Sprintf("~2^%.0f %s", math.Log2(float64(f.Free)), f.family))
		}
	}
	return strings.Join(parts, ", ")
}

func sum(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
