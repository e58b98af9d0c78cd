// Package artifacts builds what a lab needs and cannot be taken from Debian: the programs of Kubernetes, CoreDNS and the
// upstream end-to-end tests, from the Go modules pinned in this module's go.mod, and the images of the pods. Whatever was
// built is kept in a cache outside of the checkout.
//
// A result is found by the hash of what it is made from (pinned versions, flags, the recipe's own files, the results that
// it builds upon), so there is nothing to invalidate: another version is another name, and an old one goes when nobody has
// used it for a week. Only what is asked for is built. Several processes may use one cache at a time; they wait for each
// other where they want the same thing.
//
// The steps and what they need of each other are the table in steps.go.
package artifacts
