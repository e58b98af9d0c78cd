// Package coredns has only a test: it compares dns/zone with the kubernetes plugin of CoreDNS, which it stands in for.
// It is a package of its own so that no other test is built with what the plugin needs.
package coredns
