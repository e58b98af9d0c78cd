// Package reconnect lets watches begin again within seconds after an API server has been away.
//
// client-go's informers try again at growing intervals, of 30 to 60 seconds in the end, with no way to set them: after an outage of
// a minute a controller would not see new Services, and an agent no new endpoints, for up to another minute. With the transport of
// this package a watch that cannot connect waits inside its request, and connects as soon as that is possible; an informer does not
// learn that anything was wrong. All other requests fail at once, as ever.
//
// Both programs put it around the transport of the clients that their informers use. It is safe for concurrent use.
package reconnect
