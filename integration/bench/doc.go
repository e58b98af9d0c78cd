// Package bench is what the benchmarks of Seamark's parts have in common: figures beside their targets, where they were
// measured, what the processes of a lab used, what they say of themselves, and the report of it all.
//
// A benchmark is a package below this one. It measures and returns a [Report]; the command integration/cmd/bench prints
// it, writes it to docs/benchmarks and ends with an error if a target was missed.
package bench
