// Package netnstest runs tests in a network namespace of their own, for what needs the kernel: addresses, nftables,
// sockets at port 53. Nothing of it touches the machine's own network.
package netnstest
