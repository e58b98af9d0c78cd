package ipam

import (
	"fmt"
	"runtime"
	"testing"
)

// Memory goes by the addresses in use, not by those that there are.
func TestMemoryOfLargePools(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	x := indexOf(poolOf(t, "v4", "10.0.0.0/8"), poolOf(t, "v6", "2001:db8::/64"), poolOf(t, "all", "2000::/3"))
	for i := range 1000 {
		for _, c := range x.Decide(Request{Service: service(fmt.Sprint(i)), Families: dual}).Changes {
			x.Set(c)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > 4<<20 {
		t.Errorf("%d kB for 2,000 addresses", used>>10)
	}
	runtime.KeepAlive(x)
}
