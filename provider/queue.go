package provider

import (
	"context"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"
)

const (
	queueWorkers  = 4
	retryShortest = 100 * time.Millisecond
	retryLongest  = 30 * time.Second
)

// queue works through keys, each by one worker at a time, and again after an error.
type queue struct {
	workqueue.TypedRateLimitingInterface[string]
	name string
	log  *slog.Logger
	sync func(ctx context.Context, key string) error
}

func newQueue(name string, log *slog.Logger, sync func(context.Context, string) error) *queue {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[string](retryShortest, retryLongest)
	return &queue{
		TypedRateLimitingInterface: workqueue.NewTypedRateLimitingQueue(limiter),
		name:                       name, log: log, sync: sync,
	}
}

// run works until ctx ends.
func (q *queue) run(ctx context.Context) {
	var wg sync.WaitGroup
	for range queueWorkers {
		wg.Go(func() {
			for q.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	q.ShutDown()
	wg.Wait()
}

func (q *queue) next(ctx context.Context) bool {
	key, shutdown := q.Get()
	if shutdown {
		return false
	}
	defer q.Done(key)
	err := q.sync(ctx, key)
	if err == nil {
		q.Forget(key)
		return true
	}
	// A conflict is the API server's way of saying that the watch is about to bring something newer.
	if !apierrors.IsConflict(err) && ctx.Err() == nil {
		q.log.Warn("will try again", "queue", q.name, "key", key, "err", err)
	}
	q.AddRateLimited(key)
	return true
}
