// Package realtime lets a thread run before everything else on a host whose processors are all busy.
//
// Who is kept from running cannot say that it is alive, nor that what it promised still holds: for a node's heartbeats,
// being late is being gone. The kernel schedules a thread with a real-time policy at once (sched(7)), whatever the cgroup
// of its pod is entitled to. LockThread is for loops that wait in the kernel, with Poll; a Watchdog stands in for goroutines, which the
// runtime wakes on ordinary threads, when they are late.
//
// It has no place in the flow: packages that keep time on the network, liveness/segment and bfd, are above it.
package realtime
