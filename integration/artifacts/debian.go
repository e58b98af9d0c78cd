package artifacts

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/seamark-io/seamark/integration/oci"
)

const (
	debianSuite = "bookworm"
	debianLayer = "root.tar.gz"
)

// debianPackages are the programs that the upstream tests run in their pods. netcat-openbsd and GNU's libc are those that
// upstream's own images have, too.
const debianPackages = "conntrack,curl,dnsutils,iperf,iproute2,iputils-ping,netcat-openbsd,procps,wget"

// wgetrc has wget try once, as busybox's, which upstream's images have, does. Else it tries twenty times, and takes four minutes
// where a spec asks an address that must not answer. Debian's busybox is no way out: its wget crashed in such a pod.
const wgetrc = "tries = 1\n"

// unwanted says what of the root a test image does not need, or must not have: files that debootstrap copies from this
// machine, and files with the time of the installation in them.
func unwanted(path string) bool {
	switch path {
	case "boot", "dev", "proc", "sys", "debootstrap", "usr/sbin/policy-rc.d",
		"etc/hostname", "etc/resolv.conf", "etc/machine-id",
		"usr/share/bash-completion", "usr/share/doc", "usr/share/info", "usr/share/lintian", "usr/share/locale", "usr/share/man",
		"var/cache", "var/lib/apt", "var/log":
		return true
	}
	return false
}

// debianRoot is the file system below the test images: a minimal Debian with debianPackages, as one layer.
func debianRoot() step {
	return step{
		about:   "a Debian " + debianSuite + " root for the test images, about a minute",
		sources: []string{"artifacts/debian.go", "oci/layer.go"},
		build:   buildDebianRoot,
	}
}

func buildDebianRoot(ctx context.Context, b *builder) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("debootstrap needs root")
	}
	root := filepath.Join(b.out, "root")
	// Download, from debootstrap's own default mirror, and unpack only; the packages' own scripts run in the second stage.
	err := debootstrap(ctx, b, "debootstrap", "--foreign", "--variant=minbase", "--include="+debianPackages, debianSuite, root)
	if err != nil {
		return err
	}
	// Those scripts shall not start services, nor set kernel parameters as that of procps does.
	if err := os.WriteFile(filepath.Join(root, "usr/sbin/policy-rc.d"), []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
		return err
	}
	// In namespaces of their own they can neither reach this machine's network nor leave a mount or a process behind.
	err = debootstrap(ctx, b, "unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child",
		"chroot", root, "/debootstrap/debootstrap", "--second-stage")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "etc/wgetrc"), []byte(wgetrc), 0o644); err != nil {
		return err
	}
	layer, err := oci.TreeLayer(root, unwanted)
	if err != nil {
		return err
	}
	if err := oci.WriteLayerFile(filepath.Join(b.out, debianLayer), layer); err != nil {
		return err
	}
	return os.RemoveAll(root)
}

// debootstrap runs one of its stages and reports the last thing that it did, every progressEvery.
func debootstrap(ctx context.Context, b *builder, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	out := &tail{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w; install the Debian package debootstrap", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-exited:
			if err != nil {
				return fmt.Errorf("%s: %w:\n%s", strings.Join(args, " "), err, out)
			}
			return nil
		case <-tick.C:
			if last := out.lastLine(); last != "" {
				b.printf("%s", last)
			}
		}
	}
}
