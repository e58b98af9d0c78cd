package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	servicecontroller "k8s.io/cloud-provider/controllers/service"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"github.com/seamark-io/seamark/api/client"
	"github.com/seamark-io/seamark/api/v1alpha1"
)

// world is an API server, faked at the clients, and controllers that work on it: real ones, with the stock service
// controller in front. It lives in a synctest bubble: hours pass at once, and settle waits until nothing moves.
type world struct {
	*testing.T
	sole    bool
	class   string
	only    bool // its class and no others
	kube    *fake.Clientset
	seamark *client.Client
	fake    *clienttesting.Fake   // of the Seamark objects
	callers []*clienttesting.Fake // what controllers call, apart from what the test does itself
	events  *record.FakeRecorder
	// onEvent is called when the provider makes an event.
	onEvent func(reason string)

	mu sync.Mutex
	// about are the events about each Service, the provider's and the stock controller's.
	about map[string][]string
}

// Event is that of a record.EventRecorder.
func (w *world) Event(obj runtime.Object, kind, reason, message string) {
	if w.onEvent != nil {
		w.onEvent(reason)
	}
	w.note(obj.(metav1.Object).GetName(), reason, message)
	w.events.Event(obj, kind, reason, message)
}

// recorder is the rest of a record.EventRecorder.
type recorder struct {
	record.EventRecorder
	w *world
}

func (r recorder) Event(obj runtime.Object, kind, reason, message string) {
	r.w.Event(obj, kind, reason, message)
}

// TestMain keeps the stock controller's log out of the tests' output.
func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard())
	// Another of its handlers sleeps until a second after the last error, which in a bubble may be years ahead.
	utilruntime.ErrorHandlers = utilruntime.ErrorHandlers[:1]
	os.Exit(checkCalls(m))
}

// inWorld runs a test twice: with controllers that write VIP and status one after the other, and at the same time.
func inWorld(t *testing.T, f func(w *world)) {
	for name, sole := range map[string]bool{"one by one": false, "together": true} {
		t.Run(name, func(t *testing.T) { inOneWorld(t, sole, f) })
	}
}

func inOneWorld(t *testing.T, sole bool, f func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, sole: sole, class: v1alpha1.LoadBalancerClass, kube: fake.NewClientset(), events: record.NewFakeRecorder(1000), about: map[string][]string{}}
		w.kube.PrependReactor("create", "events", w.noteEvent)
		w.kube.PrependReactor("patch", "services", w.forbidFinalizers)
		w.seamark, w.fake = fakeSeamark(t)
		defer func() {
			for _, c := range w.callers {
				called.add(c.Actions())
			}
		}()
		w.must(w.kube.Tracker().Add(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}))
		f(w)
	})
}

// controller starts a controller and returns what stops it.
func (w *world) controller() (stop func()) {
	lead, stop, _ := w.standby()
	lead()
	return stop
}

// standby starts a controller that watches, and returns what makes it lead and what stops it.
func (w *world) standby() (lead, stop func(), p *Provider) {
	ctx, cancel := context.WithCancel(w.Context())
	kube, seamark := w.clients()
	p, err := New(Config{Kube: kube, Seamark: seamark, Events: recorder{w.events, w}, Log: slog.New(slog.DiscardHandler), Class: w.class, OnlyClass: w.only, Sole: w.sole})
	w.must(err)
	shared := informers.NewSharedInformerFactory(kube, 0)
	p.SetInformers(shared)
	var wg sync.WaitGroup
	shared.Start(ctx.Done())
	wg.Go(func() { p.Watch(ctx) })
	w.settle()
	lead = func() {
		p.SetInformers(shared) // k8s.io/cloud-provider does
		stock, err := servicecontroller.New(p, p.Client(kube), p.Services(shared.Core().V1().Services()), shared.Core().V1().Nodes(), "kubernetes", nil)
		w.must(err)
		shared.Start(ctx.Done())
		wg.Go(func() { _ = p.Run(ctx) })
		wg.Go(func() {
			select {
			case <-p.Ready():
				stock.Run(ctx, 8, controllersmetrics.NewControllerManagerMetrics("test"))
			case <-ctx.Done():
			}
		})
		w.settle()
	}
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		shared.Shutdown()
		for _, q := range p.queues() {
			q.ShutDown()
		}
		w.settle()
	})
	w.Cleanup(stop)
	return lead, stop, p
}

// forbidFinalizers stands in for the API server, which lets nobody add a finalizer to what is being deleted.
func (w *world) forbidFinalizers(a clienttesting.Action) (bool, runtime.Object, error) {
	p := a.(clienttesting.PatchAction)
	have, err := w.kube.Tracker().Get(a.GetResource(), a.GetNamespace(), p.GetName())
	if err != nil {
		return true, nil, err
	}
	svc := have.(*corev1.Service)
	var patch struct{ Metadata struct{ Finalizers []string } }
	if err := json.Unmarshal(p.GetPatch(), &patch); err != nil {
		return true, nil, err
	}
	for _, f := range patch.Metadata.Finalizers {
		if svc.DeletionTimestamp != nil && !slices.Contains(svc.Finalizers, f) {
			return true, nil, apierrors.NewForbidden(a.GetResource().GroupResource(), svc.Name, errors.New("no new finalizers can be added if the object is being deleted"))
		}
	}
	return false, nil, nil
}

// clients are those of one controller: what it calls is noted, and then done by the world's.
func (w *world) clients() (*fake.Clientset, *client.Client) {
	kube, seamark := fake.NewClientset(), &clienttesting.Fake{}
	kube.Resources = w.kube.Resources
	forward(&kube.Fake, &w.kube.Fake)
	forward(seamark, w.fake)
	w.callers = append(w.callers, &kube.Fake, seamark)
	return kube, clientOf(seamark)
}

func forward(from, to *clienttesting.Fake) {
	from.PrependReactor("*", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		o, err := to.Invokes(a, nil)
		return true, o, err
	})
	from.PrependWatchReactor("*", func(a clienttesting.Action) (bool, watch.Interface, error) {
		events, err := to.InvokesWatch(a)
		return true, events, err
	})
}

// settle lets the short delays pass that changes are gathered in.
func (w *world) settle() {
	for range 5 {
		time.Sleep(settle)
		synctest.Wait()
	}
}

// soon lets the second pass in which Services that wait are to be served.
func (w *world) soon() {
	time.Sleep(time.Second)
	synctest.Wait()
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

var generation atomic.Int64 //nolint:gochecknoglobals // only has to grow

// pool creates or replaces an IPPool.
func (w *world) pool(name string, addresses ...string) {
	w.Helper()
	p := &v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: generation.Add(1)}, Spec: v1alpha1.IPPoolSpec{Addresses: addresses}}
	old, err := w.seamark.IPPools.Get(w.Context(), name, metav1.GetOptions{})
	if err == nil {
		p.Status, p.ResourceVersion, p.UID, p.Finalizers, p.CreationTimestamp = old.Status, old.ResourceVersion, old.UID, old.Finalizers, old.CreationTimestamp
		_, err = w.seamark.IPPools.Update(w.Context(), p, metav1.UpdateOptions{})
	} else {
		_, err = w.seamark.IPPools.Create(w.Context(), p, metav1.CreateOptions{})
	}
	w.must(err)
	w.settle()
}

// editPool changes an IPPool as its owner would.
func (w *world) editPool(name string, change func(*v1alpha1.IPPool)) {
	w.Helper()
	p, err := w.seamark.IPPools.Get(w.Context(), name, metav1.GetOptions{})
	w.must(err)
	p = p.DeepCopy()
	change(p)
	p.Generation = generation.Add(1)
	_, err = w.seamark.IPPools.Update(w.Context(), p, metav1.UpdateOptions{})
	w.must(err)
	w.settle()
}

// labelNamespace has a namespace belong to a team.
func (w *world) labelNamespace(name, team string) {
	w.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"team": team}}}
	_, err := w.kube.CoreV1().Namespaces().Update(w.Context(), ns, metav1.UpdateOptions{})
	w.must(err)
	w.settle()
}

// createNamespace makes a namespace of a team.
func (w *world) createNamespace(name, team string) {
	w.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"team": team}}}
	_, err := w.kube.CoreV1().Namespaces().Create(w.Context(), ns, metav1.CreateOptions{})
	w.must(err)
	w.settle()
}

// ownEvents returns the warnings that the provider made.
func (w *world) ownEvents() (out []string) {
	for {
		select {
		case e := <-w.events.Events:
			if strings.HasPrefix(e, corev1.EventTypeWarning) {
				out = append(out, e)
			}
		default:
			return out
		}
	}
}

// service creates a Service of type LoadBalancer with one or two families.
func (w *world) service(name string, change ...func(*corev1.Service)) {
	w.Helper()
	w.create(name, change...)
	w.settle()
	time.Sleep(time.Second) // so that the next one is younger
}

func (w *world) create(name string, change ...func(*corev1.Service)) {
	w.Helper()
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name), CreationTimestamp: metav1.Now()},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicySingleStack)},
	}
	for _, c := range change {
		c(svc)
	}
	_, err := w.kube.CoreV1().Services("shop").Create(w.Context(), svc, metav1.CreateOptions{})
	w.must(err)
}

// update changes a Service as its owner would.
func (w *world) update(name string, change func(*corev1.Service)) {
	w.Helper()
	svc := w.get(name)
	change(svc)
	_, err := w.kube.CoreV1().Services("shop").Update(w.Context(), svc, metav1.UpdateOptions{})
	w.must(err)
	w.settle()
}

// delete deletes a Service as the API server does: it is gone when its finalizers are.
func (w *world) delete(name string) {
	w.Helper()
	w.update(name, func(s *corev1.Service) { s.DeletionTimestamp = ptr.To(metav1.Now()) })
	if left := w.get(name).Finalizers; len(left) > 0 {
		w.Errorf("%s still has finalizers %v", name, left)
	}
	w.must(w.kube.CoreV1().Services("shop").Delete(w.Context(), name, metav1.DeleteOptions{}))
	w.settle()
}

func (w *world) get(name string) *corev1.Service {
	w.Helper()
	svc, err := w.kube.CoreV1().Services("shop").Get(w.Context(), name, metav1.GetOptions{})
	w.must(err)
	return svc
}

// wantAddress fails unless the Service's status, its condition and the VIPs all say these addresses.
func (w *world) wantAddress(name, want string) {
	w.Helper()
	svc := w.get(name)
	var shown []string
	for _, in := range svc.Status.LoadBalancer.Ingress {
		shown = append(shown, in.IP)
		if ptr.Deref(in.IPMode, "") != corev1.LoadBalancerIPModeVIP {
			w.Errorf("%s: ipMode of %s is not VIP", name, in.IP)
		}
	}
	if got := strings.Join(shown, " "); got != want {
		w.Errorf("%s: status shows %q; want %q", name, got, want)
	}
	slices.Sort(shown)
	if got := w.vipsOf(name); !slices.Equal(got, shown) {
		w.Errorf("%s: VIPs %q; the status shows %q", name, got, shown)
	}
	if c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ServiceAddressAllocated); want != "" && (c == nil || c.Status != metav1.ConditionTrue) {
		w.Errorf("%s: condition %+v; want True", name, c)
	}
}

// wantWaiting fails unless the Service's condition says that it could not get what it wants, for this reason.
func (w *world) wantWaiting(name, reason, says string) {
	w.Helper()
	c := meta.FindStatusCondition(w.get(name).Status.Conditions, v1alpha1.ServiceAddressAllocated)
	if c == nil || c.Status != metav1.ConditionFalse || c.Reason != reason || !strings.Contains(c.Message, says) {
		w.Errorf("%s: condition %+v; want False, %s, %q", name, c, reason, says)
	}
}

func (w *world) vips() []v1alpha1.VIP {
	w.Helper()
	l, err := w.seamark.VIPs.List(w.Context(), metav1.ListOptions{})
	w.must(err)
	return l.Items
}

func (w *world) vipsOf(service string) (addrs []string) {
	w.Helper()
	for _, vip := range w.vips() {
		if slices.ContainsFunc(vip.Spec.Services, func(s v1alpha1.VIPService) bool { return s.Namespace == "shop" && s.Name == service }) {
			addrs = append(addrs, vip.Spec.Address)
		}
	}
	slices.Sort(addrs)
	return addrs
}

// eventsAbout returns the events that were made about a Service, by whomever, as "reason: message".
func (w *world) eventsAbout(service string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.about[service])
}

// noteEvent stands in for the API server, which two events of one moment would collide in: time stands still here.
func (w *world) noteEvent(a clienttesting.Action) (bool, runtime.Object, error) {
	e := a.(clienttesting.CreateAction).GetObject().(*corev1.Event)
	w.note(e.InvolvedObject.Name, e.Reason, e.Message)
	return true, e, nil
}

func (w *world) note(service, reason, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.about[service] = append(w.about[service], reason+": "+message)
}

// wantEvents fails unless the events about a Service have these reasons, in this order.
func (w *world) wantEvents(service string, want ...string) {
	w.Helper()
	var got []string
	for _, e := range w.eventsAbout(service) {
		reason, _, _ := strings.Cut(e, ":")
		got = append(got, reason)
	}
	if !slices.Equal(got, want) {
		w.Errorf("%s: events %q; want %q", service, w.eventsAbout(service), want)
	}
}

// fakeSeamark is the client of Seamark's objects on an object tracker, which refuses to create what exists, as the API
// server does.
func fakeSeamark(t *testing.T) (*client.Client, *clienttesting.Fake) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	tracker := clienttesting.NewFieldManagedObjectTracker(scheme, serializer.NewCodecFactory(scheme).UniversalDecoder(), managedfields.NewDeducedTypeConverter())
	f := &clienttesting.Fake{}
	f.AddReactor("*", "*", clienttesting.ObjectReaction(tracker))
	v := &versions{tracker: tracker}
	f.PrependReactor("create", "*", v.create)
	f.PrependReactor("update", "*", v.update)
	f.PrependReactor("patch", "*", v.patch)
	f.PrependReactor("delete", "*", v.delete)
	f.AddWatchReactor("*", func(a clienttesting.Action) (bool, watch.Interface, error) {
		w, err := tracker.Watch(a.GetResource(), a.GetNamespace())
		return true, w, err
	})
	return clientOf(f), f
}

func clientOf(f *clienttesting.Fake) *client.Client {
	return &client.Client{
		IPPools: fakeResource(f, "ippools", "IPPool", func() *v1alpha1.IPPool { return &v1alpha1.IPPool{} }, func() *v1alpha1.IPPoolList { return &v1alpha1.IPPoolList{} },
			func(l *v1alpha1.IPPoolList) []*v1alpha1.IPPool { return gentype.ToPointerSlice(l.Items) },
			func(l *v1alpha1.IPPoolList, i []*v1alpha1.IPPool) { l.Items = gentype.FromPointerSlice(i) }),
		BGPPeers: fakeResource(f, "bgppeers", "BGPPeer", func() *v1alpha1.BGPPeer { return &v1alpha1.BGPPeer{} }, func() *v1alpha1.BGPPeerList { return &v1alpha1.BGPPeerList{} },
			func(l *v1alpha1.BGPPeerList) []*v1alpha1.BGPPeer { return gentype.ToPointerSlice(l.Items) },
			func(l *v1alpha1.BGPPeerList, i []*v1alpha1.BGPPeer) { l.Items = gentype.FromPointerSlice(i) }),
		VIPs: fakeResource(f, "vips", "VIP", func() *v1alpha1.VIP { return &v1alpha1.VIP{} }, func() *v1alpha1.VIPList { return &v1alpha1.VIPList{} },
			func(l *v1alpha1.VIPList) []*v1alpha1.VIP { return gentype.ToPointerSlice(l.Items) },
			func(l *v1alpha1.VIPList, i []*v1alpha1.VIP) { l.Items = gentype.FromPointerSlice(i) }),
	}
}

// versions gives objects their UID, resourceVersion and generation, and refuses writes of a version that is gone, as the
// API server does.
type versions struct {
	tracker clienttesting.ObjectTracker
	last    atomic.Int64
}

func (v *versions) next() string { return fmt.Sprint(v.last.Add(1)) }

func (v *versions) create(a clienttesting.Action) (bool, runtime.Object, error) {
	o := a.(clienttesting.CreateAction).GetObject().(object)
	o.SetUID(types.UID("uid-" + v.next()))
	o.SetResourceVersion(v.next())
	o.SetCreationTimestamp(metav1.Now())
	o.SetGeneration(max(o.GetGeneration(), 1))
	return false, nil, nil
}

func (v *versions) update(a clienttesting.Action) (bool, runtime.Object, error) {
	o := a.(clienttesting.UpdateAction).GetObject().(object)
	if have, err := v.tracker.Get(a.GetResource(), "", o.GetName()); err == nil && o.GetResourceVersion() != "" && have.(object).GetResourceVersion() != o.GetResourceVersion() {
		return true, nil, apierrors.NewConflict(a.GetResource().GroupResource(), o.GetName(), errors.New("it has changed"))
	}
	o.SetResourceVersion(v.next())
	return false, nil, nil
}

func (v *versions) patch(a clienttesting.Action) (bool, runtime.Object, error) {
	p := a.(clienttesting.PatchAction)
	if p.GetPatchType() != types.MergePatchType {
		return false, nil, nil
	}
	have, err := v.tracker.Get(a.GetResource(), "", p.GetName())
	if err != nil {
		return true, nil, err
	}
	was := have.(object)
	before, err := json.Marshal(have)
	if err != nil {
		return true, nil, err
	}
	after, err := jsonpatch.MergePatch(before, p.GetPatch())
	if err != nil {
		return true, nil, err
	}
	o := reflect.New(reflect.TypeOf(have).Elem()).Interface().(object)
	if err := json.Unmarshal(after, o); err != nil {
		return true, nil, err
	}
	if o.GetResourceVersion() != was.GetResourceVersion() || o.GetUID() != was.GetUID() {
		return true, nil, apierrors.NewConflict(a.GetResource().GroupResource(), p.GetName(), errors.New("it has changed"))
	}
	o.SetResourceVersion(v.next())
	var is, now struct{ Spec any }
	if json.Unmarshal(before, &is) == nil && json.Unmarshal(after, &now) == nil && !reflect.DeepEqual(is, now) {
		o.SetGeneration(was.GetGeneration() + 1)
	}
	if o.GetDeletionTimestamp() != nil && len(o.GetFinalizers()) == 0 {
		return true, o, v.tracker.Delete(a.GetResource(), "", p.GetName())
	}
	return true, o, v.tracker.Update(a.GetResource(), o, "")
}

func (v *versions) delete(a clienttesting.Action) (bool, runtime.Object, error) {
	d := a.(clienttesting.DeleteAction)
	got, err := v.tracker.Get(a.GetResource(), "", d.GetName())
	if err != nil {
		return true, nil, err
	}
	have := got.(object)
	if p := d.GetDeleteOptions().Preconditions; p != nil && (p.UID != nil && *p.UID != have.GetUID() || p.ResourceVersion != nil && *p.ResourceVersion != have.GetResourceVersion()) {
		return true, nil, apierrors.NewConflict(a.GetResource().GroupResource(), d.GetName(), errors.New("it has changed"))
	}
	if len(have.GetFinalizers()) == 0 {
		return false, nil, nil
	}
	have = have.DeepCopyObject().(object)
	have.SetDeletionTimestamp(ptr.To(metav1.Now()))
	have.SetGeneration(have.GetGeneration() + 1)
	have.SetResourceVersion(v.next())
	return true, have, v.tracker.Update(a.GetResource(), have, "")
}

type object interface {
	runtime.Object
	metav1.Object
}

func fakeResource[T object, L runtime.Object](f *clienttesting.Fake, resource, kind string, newObject func() T, newList func() L, items func(L) []T, setItems func(L, []T)) client.Resource[T, L] {
	return listOnly[T, L]{gentype.NewFakeClientWithList(f, "", v1alpha1.SchemeGroupVersion.WithResource(resource), v1alpha1.SchemeGroupVersion.WithKind(kind),
		newObject, newList, func(L, L) {}, items, setItems)}
}

// listOnly says that the fake cannot send a list as a watch.
type listOnly[T object, L runtime.Object] struct {
	*gentype.FakeClientWithList[T, L]
}

func (listOnly[T, L]) IsWatchListSemanticsUnSupported() bool { return true }
