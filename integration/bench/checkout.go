package bench

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// Checkout returns the root of the checkout of Seamark around the working directory.
func Checkout(ctx context.Context) (string, error) {
	root, err := exec.CommandContext(ctx, "git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return "", fmt.Errorf("find the checkout of Seamark around the working directory: %w", err)
	}
	return strings.TrimSpace(string(root)), nil
}
