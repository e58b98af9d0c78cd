// Package probe makes and takes connections inside the network namespaces of a lab's hosts, from the test's own process,
// and measures for how long something did not answer.
//
// [Namespace] gives the standard library's dialling and listening in a namespace. A [Watch] asks a URL at a steady pace,
// whether or not earlier requests have been answered, and returns a [Record]; what a Record says is pure arithmetic on it.
// Scenarios and the demo use both.
package probe
