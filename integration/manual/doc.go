// Package manual follows the manuals on a cluster like the one that they are for: with kube-proxy, CoreDNS and Services that
// another load balancer has given addresses to. The commands are those of docs/migrate.md and docs/install.md.
package manual
