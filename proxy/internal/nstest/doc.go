// Package nstest makes network namespaces for tests: hosts that are connected by veth links. It needs root.
package nstest
