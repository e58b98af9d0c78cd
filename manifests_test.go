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
	"regexp"
	"slices"
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

// TestPatchesInManual: docs/install.md replaces arguments of the agent by their number.
func TestPatchesInManual(t *testing.T) {
	object, err := decode(manifestScheme(t), read(t, "manifests/node/daemonset.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	args := object.(*appsv1.DaemonSet).Spec.Template.Spec.Containers[0].Args
	manual := string(read(t, "docs/install.md"))
	patch := regexp.MustCompile(`path: /spec/template/spec/containers/0/args/(\d+), value: (--[a-z]+)=`)
	found := patch.FindAllStringSubmatch(manual, -1)
	if len(found) == 0 {
		t.Fatal("no patch")
	}
	for _, m := range found {
		var n int
		fmt.Sscan(m[1], &n)
		if n >= len(args) || !strings.HasPrefix(args[n], m[2]+"=") {
			t.Errorf("argument %d is to be %s; the arguments are %q", n, m[2], args)
		}
	}
}
