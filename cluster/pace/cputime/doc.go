// Package cputime tells what processor time a piece of work takes, for a pace.Pacer: the only place where the loops that follow
// the cluster read a clock of their own use.
package cputime
