// Package netlab gives the speaker's tests a network of their own: the test process in a network namespace, and hosts and
// links beside it, all gone when the test ends. It needs root.
package netlab
