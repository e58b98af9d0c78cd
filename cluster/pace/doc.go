// Package pace keeps loops that follow a cluster from following it too closely. A change on its own is to be acted upon at
// once, and so are the few that come with it; but where changes stream in, a loop that runs for each of them takes a whole
// processor for results that nobody waits for. A Pacer lets a loop run freely as long as it uses a small share of a processor.
// A Pulse tells others whether such a loop gets on.
//
// It is arithmetic on durations: it reads no clock and never sleeps. Package cputime, below, measures what a run uses.
package pace
