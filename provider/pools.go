package provider

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	valid, refused := ipam.Judge(candidates)
	why := make(map[string]string, len(refused))
	for name, v := range refused {
		why[name] = v.Message
	}
	p.alloc.setPools(valid, why)
	p.verdicts.Store(&refused)
	for _, pool := range pools {
		p.poolStatus.AddAfter(pool.Name, settle)
	}
}

func candidate(pool *v1alpha1.IPPool) ipam.Candidate {
	c := ipam.Candidate{Addresses: pool.Spec.Addresses, Created: pool.CreationTimestamp.Time}
	converted, err := watch.Pool(pool)
	if err != nil {
		c.Pool, c.Problem = cluster.Pool{Name: pool.Name}, err
		return c
	}
	c.Pool = *converted
	return c
}

func (p *Provider) syncPoolStatus(ctx context.Context, name string) error {
	pool, ok := get[*v1alpha1.IPPool](p.pools, name)
	if !ok {
		return nil
	}
	verdict, refused := (*p.verdicts.Load())[name]
	status := v1alpha1.IPPoolStatus{
		ObservedGeneration: pool.Generation,
		Conditions:         slices.Clone(pool.Status.Conditions),
	}
	ready := metav1.Condition{
		Type: v1alpha1.PoolReady, Status: metav1.ConditionTrue, Reason: v1alpha1.PoolReasonValid,
		Message: "gives out addresses", ObservedGeneration: pool.Generation,
	}
	if refused {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1alpha1.PoolReasonInvalidAddresses, verdict.Message
		if verdict.Overlap {
			ready.Reason = v1alpha1.PoolReasonOverlap
		}
		status.Used = p.alloc.usedOf(name)
	} else {
		v4, v6 := p.alloc.counts(name)
		status.IPv4, status.IPv6 = countsOf(v4), countsOf(v6)
		status.Used, status.Free = sum(v4.Used, v6.Used), sum(v4.Free, v6.Free)
		status.FreeText = freeText(v4, v6)
	}
	meta.SetStatusCondition(&status.Conditions, ready)
	if equality.Semantic.DeepEqual(status, pool.Status) {
		return nil
	}
	return client.ApplyStatus(ctx, p.Seamark.IPPools, FieldManager, name, applyPool{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "IPPool"},
		Metadata: map[string]string{"name": name},
		Status:   status,
	})
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
	return &v1alpha1.AddressCounts{Total: c.Total, Used: c.Used, Free: c.Free}
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
