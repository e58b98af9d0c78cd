package conntrack

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// BeLiberal tells the kernel to translate TCP packets outside of the window as well. If it does not, such a packet
// passes as it is, and its receiver ends the connection with a reset (kubernetes/kubernetes#74839). The sysctl is
// found under root, "/proc/sys" as a rule.
func BeLiberal(root string) error {
	name := filepath.Join(root, "net/netfilter/nf_conntrack_tcp_be_liberal")
	if b, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(b)) == "1" {
		return nil
	}
	if err := os.WriteFile(name, []byte("1\n"), 0); err != nil {
		return fmt.Errorf("make connection tracking liberal: %w", err)
	}
	return nil
}
