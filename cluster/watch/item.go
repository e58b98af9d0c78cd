package watch

import (
	"fmt"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// item is what an informer's store holds instead of an API object: its name and its value. A Service takes a fifth of
// the memory that way, and a change that no part looks at (a heartbeat, a label) is seen to be none.
type item[V any] struct {
	namespace, name string
	uid             types.UID
	resourceVersion string
	value           V
}

// GetObjectMeta implements metav1.ObjectMetaAccessor, by which informers name what they store. It is made for each call: kept, it
// would take more than the values of most kinds.
func (i *item[V]) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: i.namespace, Name: i.name, UID: i.uid, ResourceVersion: i.resourceVersion}
}

// transform makes an informer keep items. A nil value stands for an object of no use. It may see its own result again,
// which the contract of cache.TransformFunc asks it to leave as it is.
func transform[O metav1.Object, V any](convert func(O) V) cache.TransformFunc {
	return func(obj any) (any, error) {
		switch o := obj.(type) {
		case O:
			return &item[V]{
				namespace: o.GetNamespace(), name: o.GetName(), uid: o.GetUID(), resourceVersion: o.GetResourceVersion(),
				value: convert(o),
			}, nil
		case *item[V], cache.DeletedFinalStateUnknown:
			return obj, nil
		default:
			return nil, fmt.Errorf("unexpected object %T", obj)
		}
	}
}

// onChange calls f when an item comes, goes, or gets another value.
func onChange[V any](f func()) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { f() },
		DeleteFunc: func(any) { f() },
		UpdateFunc: func(oldObj, newObj any) {
			o, okOld := oldObj.(*item[V])
			n, okNew := newObj.(*item[V])
			if okOld && okNew && o.uid == n.uid && reflect.DeepEqual(o.value, n.value) {
				return
			}
			f()
		},
	}
}

// values calls f for each item of the store.
func values[V any](store cache.Store, f func(V)) {
	for _, obj := range store.List() {
		if it, ok := obj.(*item[V]); ok {
			f(it.value)
		}
	}
}
