package seamark

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

// kustomization is what we use of kustomize's Kustomization and Component (sigs.k8s.io/kustomize/api/types).
type kustomization struct {
	metav1.TypeMeta `json:",inline"`
	Namespace       string   `json:"namespace"`
	Resources       []string `json:"resources"`
	Components      []string `json:"components"`
	Patches         []struct {
		Target struct{ Group, Version, Kind, Name, Namespace string } `json:"target"`
		Patch  string                                                 `json:"patch"`
	} `json:"patches"`
	Images []struct {
		Name    string `json:"name"`
		NewName string `json:"newName"`
		NewTag  string `json:"newTag"`
	} `json:"images"`
}

// definition is a CustomResourceDefinition (k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1).
type definition struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Group string `json:"group"`
		Names struct {
			Plural     string   `json:"plural"`
			Singular   string   `json:"singular"`
			ShortNames []string `json:"shortNames"`
			Kind       string   `json:"kind"`
			ListKind   string   `json:"listKind"`
			Categories []string `json:"categories"`
		} `json:"names"`
		Scope    string `json:"scope"`
		Versions []struct {
			Name                     string                               `json:"name"`
			Served                   bool                                 `json:"served"`
			Storage                  bool                                 `json:"storage"`
			Deprecated               bool                                 `json:"deprecated"`
			Schema                   struct{ OpenAPIV3Schema jsonSchema } `json:"schema"`
			Subresources             struct{ Status *struct{} }           `json:"subresources"`
			AdditionalPrinterColumns []struct {
				Name        string `json:"name"`
				Type        string `json:"type"`
				Format      string `json:"format"`
				Description string `json:"description"`
				Priority    int32  `json:"priority"`
				JSONPath    string `json:"jsonPath"`
			} `json:"additionalPrinterColumns"`
			SelectableFields []struct {
				JSONPath string `json:"jsonPath"`
			} `json:"selectableFields"`
		} `json:"versions"`
	} `json:"spec"`
}

// jsonSchema is what controller-gen writes of a JSONSchemaProps.
type jsonSchema struct {
	Description          string                `json:"description"`
	Type                 string                `json:"type"`
	Format               string                `json:"format"`
	Title                string                `json:"title"`
	Default              any                   `json:"default"`
	Example              any                   `json:"example"`
	Enum                 []any                 `json:"enum"`
	Maximum              *float64              `json:"maximum"`
	ExclusiveMaximum     bool                  `json:"exclusiveMaximum"`
	Minimum              *float64              `json:"minimum"`
	ExclusiveMinimum     bool                  `json:"exclusiveMinimum"`
	MultipleOf           *float64              `json:"multipleOf"`
	MaxLength            *int64                `json:"maxLength"`
	MinLength            *int64                `json:"minLength"`
	Pattern              string                `json:"pattern"`
	MaxItems             *int64                `json:"maxItems"`
	MinItems             *int64                `json:"minItems"`
	UniqueItems          bool                  `json:"uniqueItems"`
	MaxProperties        *int64                `json:"maxProperties"`
	MinProperties        *int64                `json:"minProperties"`
	Required             []string              `json:"required"`
	Nullable             bool                  `json:"nullable"`
	Items                *jsonSchema           `json:"items"`
	AllOf                []jsonSchema          `json:"allOf"`
	OneOf                []jsonSchema          `json:"oneOf"`
	AnyOf                []jsonSchema          `json:"anyOf"`
	Not                  *jsonSchema           `json:"not"`
	Properties           map[string]jsonSchema `json:"properties"`
	AdditionalProperties *jsonSchema           `json:"additionalProperties"`
	ListType             string                `json:"x-kubernetes-list-type"`
	ListMapKeys          []string              `json:"x-kubernetes-list-map-keys"`
	MapType              string                `json:"x-kubernetes-map-type"`
	IntOrString          bool                  `json:"x-kubernetes-int-or-string"`
	PreserveUnknown      *bool                 `json:"x-kubernetes-preserve-unknown-fields"`
	Validations          []struct {
		Rule              string `json:"rule"`
		Message           string `json:"message"`
		MessageExpression string `json:"messageExpression"`
		Reason            string `json:"reason"`
		FieldPath         string `json:"fieldPath"`
		OptionalOldSelf   *bool  `json:"optionalOldSelf"`
	} `json:"x-kubernetes-validations"`
}

func manifestScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// decode reads a document as what its apiVersion and kind say that it is. Fields that such an object has not are an error.
func decode(s *runtime.Scheme, document []byte) (any, error) {
	var meta metav1.TypeMeta
	if err := yaml.Unmarshal(document, &meta); err != nil {
		return nil, err
	}
	var object any
	switch gvk := schema.FromAPIVersionAndKind(meta.APIVersion, meta.Kind); {
	case gvk.Group == "kustomize.config.k8s.io" && (gvk.Kind == "Kustomization" || gvk.Kind == "Component"):
		object = &kustomization{}
	case gvk.Group == "apiextensions.k8s.io" && gvk.Version == "v1" && gvk.Kind == "CustomResourceDefinition":
		object = &definition{}
	default:
		o, err := s.New(gvk)
		if err != nil {
			return nil, err
		}
		object = o
	}
	return object, yaml.UnmarshalStrict(document, object)
}

// documents returns the documents of a YAML file that hold anything.
func documents(t *testing.T, content []byte) [][]byte {
	t.Helper()
	var out [][]byte
	for r := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content))); ; {
		d, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		var any map[string]any
		if err := yaml.Unmarshal(d, &any); err != nil || len(any) > 0 {
			out = append(out, d)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestManifests decodes all that `kubectl apply` gets, and the kustomizations that lead there, strictly; no file may be
// left out of the kustomizations or be named by them without being there.
func TestManifests(t *testing.T) {
	s := manifestScheme(t)
	present, wanted := map[string]bool{}, map[string]bool{}
	for _, root := range []string{"manifests", "examples"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && filepath.Ext(path) == ".yaml" {
				present[path] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(present) < 10 {
		t.Fatalf("only %d files", len(present))
	}
	for _, path := range slices.Sorted(maps.Keys(present)) {
		for i, d := range documents(t, read(t, path)) {
			object, err := decode(s, d)
			if err != nil {
				t.Errorf("%s, document %d: %v", path, i+1, err)
			}
			k, ok := object.(*kustomization)
			if !ok {
				if filepath.Base(path) == "kustomization.yaml" {
					t.Errorf("%s is a %T", path, object)
				}
				continue
			}
			wanted[path] = true
			for _, r := range slices.Concat(k.Resources, k.Components) {
				to := filepath.Join(filepath.Dir(path), r)
				if filepath.Ext(to) != ".yaml" {
					to = filepath.Join(to, "kustomization.yaml")
				}
				if wanted[to] = true; !present[to] {
					t.Errorf("%s names %s, which does not exist", path, r)
				}
			}
		}
	}
	for path := range present {
		if !wanted[path] {
			t.Errorf("no kustomization names %s", path)
		}
	}
}

// TestManifestsAreStrict: the test above would see a mistake.
func TestManifestsAreStrict(t *testing.T) {
	s := manifestScheme(t)
	for _, path := range []string{
		"manifests/node/daemonset.yaml", "manifests/kustomization.yaml", "manifests/crds/seamark.io_vips.yaml", "examples/ippool.yaml",
	} {
		d := documents(t, read(t, path))[0]
		if _, err := decode(s, d); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		for _, mistake := range []string{"\nspek: {}\n", "\nkind: Other\n"} {
			if _, err := decode(s, append(slices.Clone(d), mistake...)); err == nil {
				t.Errorf("%s with %q is accepted", path, mistake)
			}
		}
		inner := bytes.Replace(d, []byte("  name: "), []byte("  nam: x\n  name: "), 1)
		if bytes.Contains(d, []byte("\nmetadata:\n")) {
			if _, err := decode(s, inner); err == nil {
				t.Errorf("%s with a wrong field in it is accepted", path)
			}
		}
	}
}

var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// TestManifestsInDocuments: what users are told to write is right as well. A block without a kind is part of a
// kustomization.
func TestManifestsInDocuments(t *testing.T) {
	s := manifestScheme(t)
	files, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for _, path := range append(files, "README.md") {
		for _, m := range yamlBlock.FindAllSubmatch(read(t, path), -1) {
			for _, d := range documents(t, m[1]) {
				blocks++
				if !bytes.HasPrefix(d, []byte("apiVersion:")) && !bytes.Contains(d, []byte("\napiVersion:")) {
					d = append([]byte("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"), d...)
				}
				if _, err := decode(s, d); err != nil {
					t.Errorf("%s: %v:\n%s", path, err, d)
				}
			}
		}
	}
	if blocks < 3 {
		t.Errorf("only %d blocks", blocks)
	}
}

// one returns the only document of a file.
func one[T any](t *testing.T, path string) T {
	t.Helper()
	docs := documents(t, read(t, path))
	if len(docs) != 1 {
		t.Fatalf("%s has %d documents", path, len(docs))
	}
	object, err := decode(manifestScheme(t), docs[0])
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	got, ok := object.(T)
	if !ok {
		t.Fatalf("%s is a %T", path, object)
	}
	return got
}

// at returns what a JSON pointer (RFC 6901) without escapes points to.
func at(object any, path string) (any, bool) {
	for step := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		switch in := object.(type) {
		case map[string]any:
			var ok bool
			if object, ok = in[step]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(in) {
				return nil, false
			}
			object = in[i]
		default:
			return nil, false
		}
	}
	return object, true
}

// TestBesideKubeProxy: the overlay has all that the base has, and switches proxy and dns off and nothing else. What its patch
// replaces by number is tested by the patch itself, so kustomize refuses a base that is not as the patch takes it for; this says so
// before anybody applies it.
func TestBesideKubeProxy(t *testing.T) {
	base, overlay := one[*kustomization](t, "manifests/kustomization.yaml"), one[*kustomization](t, "manifests/beside-kube-proxy/kustomization.yaml")
	var want []string
	for _, r := range base.Resources {
		if filepath.Ext(r) != ".yaml" {
			r = "../" + r
		} else if !bytes.Equal(read(t, "manifests/"+r), read(t, "manifests/beside-kube-proxy/"+r)) {
			t.Errorf("%s is not a copy of that of the base", r)
		}
		want = append(want, r)
	}
	if !slices.Equal(overlay.Resources, want) || overlay.Namespace != base.Namespace {
		t.Errorf("resources are %q in namespace %s, want %q in %s", overlay.Resources, overlay.Namespace, want, base.Namespace)
	}
	if len(base.Patches)+len(base.Components)+len(base.Images)+len(overlay.Components)+len(overlay.Images) > 0 || len(overlay.Patches) != 1 {
		t.Fatalf("this test knows no such kustomizations: %+v, %+v", base, overlay)
	}

	const container = "/spec/template/spec/containers/0"
	agent := one[*appsv1.DaemonSet](t, "manifests/node/daemonset.yaml")
	if target := overlay.Patches[0].Target; target.Kind != "DaemonSet" || target.Name != agent.Name {
		t.Errorf("the patch is for %+v", target)
	}
	var object any
	var ops []struct {
		Op, Path string
		Value    any
	}
	for from, to := range map[string]any{string(read(t, "manifests/node/daemonset.yaml")): &object, overlay.Patches[0].Patch: &ops} {
		if err := yaml.Unmarshal([]byte(from), to); err != nil {
			t.Fatal(err)
		}
	}
	args := slices.Clone(agent.Spec.Template.Spec.Containers[0].Args)
	var tested string
	removed := map[string]bool{}
	for _, op := range ops {
		found, ok := at(object, op.Path)
		var n int
		_, err := fmt.Sscanf(op.Path, container+"/args/%d", &n)
		switch {
		case !ok:
			t.Errorf("%s %s: there is no such thing", op.Op, op.Path)
		case op.Op == "test":
			if tested = op.Path; !reflect.DeepEqual(found, op.Value) {
				t.Errorf("%s is %v, and the patch wants %v", op.Path, found, op.Value)
			}
		case tested != op.Path && !strings.HasPrefix(tested, op.Path+"/"):
			t.Errorf("%s %s is not tested first", op.Op, op.Path)
		case op.Op == "replace" && err == nil:
			args[n] = op.Value.(string)
		case op.Op == "remove":
			removed[op.Path] = true
		default:
			t.Errorf("%s %s is more than an argument", op.Op, op.Path)
		}
	}
	wantArgs := slices.Clone(agent.Spec.Template.Spec.Containers[0].Args)
	for i, a := range wantArgs {
		if a == "--proxy=true" || a == "--dns=true" {
			wantArgs[i] = strings.TrimSuffix(a, "true") + "false"
		}
	}
	if !slices.Equal(args, wantArgs) || slices.Equal(args, agent.Spec.Template.Spec.Containers[0].Args) {
		t.Errorf("arguments %q, want %q", args, wantArgs)
	}
	if len(removed) != 1 || !removed[container+"/ports"] || len(agent.Spec.Template.Spec.Containers[0].Ports) != 1 {
		t.Errorf("%v is removed; the agent has the ports %+v: only kube-proxy's is to go", removed, agent.Spec.Template.Spec.Containers[0].Ports)
	}
}

// TestCleanup: what removes the rules of agents runs where they run, from their image, with no more rights.
func TestCleanup(t *testing.T) {
	agent, cleanup := one[*appsv1.DaemonSet](t, "manifests/node/daemonset.yaml"), one[*appsv1.DaemonSet](t, "manifests/cleanup/daemonset.yaml")
	a, c := agent.Spec.Template.Spec, cleanup.Spec.Template.Spec
	if len(c.InitContainers) != 1 || !slices.Equal(c.InitContainers[0].Args, []string{"cleanup"}) {
		t.Fatalf("init containers: %+v", c.InitContainers)
	}
	if got, want := c.InitContainers[0].Image, a.Containers[0].Image; got != want {
		t.Errorf("image %s; the agent's is %s", got, want)
	}
	if c.HostNetwork != a.HostNetwork || !reflect.DeepEqual(c.Tolerations, a.Tolerations) || !reflect.DeepEqual(c.NodeSelector, a.NodeSelector) ||
		!reflect.DeepEqual(c.Affinity, a.Affinity) || c.PriorityClassName != a.PriorityClassName || cleanup.Namespace != agent.Namespace {
		t.Error("it does not run on all nodes that the agent runs on")
	}
	for _, right := range c.InitContainers[0].SecurityContext.Capabilities.Add {
		if !slices.Contains(a.Containers[0].SecurityContext.Capabilities.Add, right) {
			t.Errorf("capability %s, which the agent has not", right)
		}
	}
	if maps.Equal(cleanup.Spec.Selector.MatchLabels, agent.Spec.Selector.MatchLabels) {
		t.Error("it selects the agent's pods")
	}
}

// TestFlagsInManual: the flags that documents have users add to a program are flags of one.
func TestFlagsInManual(t *testing.T) {
	known := string(read(t, "cmd/seamark-node/options.go")) + string(read(t, "cmd/seamark-controller/command.go"))
	add := regexp.MustCompile(`op: add, path: /spec/template/spec/containers/0/args/-, value: "?--([a-z-]+)=`)
	found := 0
	files, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		for _, m := range add.FindAllStringSubmatch(string(read(t, path)), -1) {
			if found++; !strings.Contains(known, strconv.Quote(m[1])) {
				t.Errorf("%s adds --%s, which there is not", path, m[1])
			}
		}
	}
	if found == 0 {
		t.Error("no document adds a flag")
	}
}
