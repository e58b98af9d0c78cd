// Package watch is the edge between the Kubernetes API and everything else on a node: one informer for each kind, kept
// as the values of package cluster and nothing more, and one Snapshot of them all.
//
//	w := watch.New(watch.Config{…})
//	proxySource, dnsSource := w.Source(), w.Source()   // one for each loop
//	go w.Run(ctx)
//
// It holds no policy. What an object means is package cluster's and the pure packages' affair; here an object that
// cannot be used (a pool whose ranges do not parse) is left out of the Snapshot, because the controller tells the user
// about it on the object itself.
package watch
