package v1alpha1

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/yaml"
)

// crdSchema is the part of a CRD's schema that this test looks at.
type crdSchema struct {
	Type       string
	Minimum    *float64
	Maximum    *float64
	Properties map[string]*crdSchema
	Items      *crdSchema
}

// TestIntegersHaveBounds: a number that the API server takes and a Go type does not hold makes every informer fail to decode
// the list that it is in, for as long as the object exists. So each integer that a person writes has bounds in the schema,
// and they fit the type. (In a status only the smaller types need them: it is written by this program.)
func TestIntegersHaveBounds(t *testing.T) {
	for name, object := range map[string]any{"ippools": IPPool{}, "bgppeers": BGPPeer{}, "vips": VIP{}} {
		b, err := os.ReadFile(filepath.Join("..", "..", "manifests", "crds", "seamark.io_"+name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var crd struct {
			Spec struct {
				Versions []struct {
					Schema struct{ OpenAPIV3Schema *crdSchema }
				}
			}
		}
		if err := yaml.Unmarshal(b, &crd); err != nil {
			t.Fatal(err)
		}
		if n := checkBounds(t, name, reflect.TypeOf(object), crd.Spec.Versions[0].Schema.OpenAPIV3Schema); n == 0 && name != "vips" {
			t.Errorf("%s: the test found no integer", name)
		}
	}
}

// checkBounds walks a type and its schema together, and returns how many integers it saw.
func checkBounds(t *testing.T, path string, typ reflect.Type, s *crdSchema) (seen int) {
	t.Helper()
	if s == nil {
		return 0
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return checkBounds(t, path, typ.Elem(), s)
	case reflect.Slice:
		return checkBounds(t, path+"[]", typ.Elem(), s.Items)
	case reflect.Struct:
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case strings.Contains(options, "inline"):
				seen += checkBounds(t, path, f.Type, s)
			case name != "" && name != "-":
				seen += checkBounds(t, path+"."+name, f.Type, s.Properties[name])
			}
		}
		return seen
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Int, reflect.Int8, reflect.Int16:
		if s.Type == "integer" {
			t.Errorf("%s is of type %s: Kubernetes' API conventions ask for int32 or int64", path, typ)
		}
	case reflect.Int32, reflect.Int64:
		low, high := float64(math.MinInt32), float64(math.MaxInt32)
		if typ.Kind() == reflect.Int64 {
			// The largest integers that JSON numbers hold exactly.
			low, high = -(1 << 53), 1<<53
		}
		switch {
		case s.Minimum == nil || s.Maximum == nil:
			if typ.Kind() == reflect.Int32 || strings.Contains(path, ".spec.") {
				t.Errorf("%s has no minimum or no maximum", path)
			}
		case *s.Minimum < low || *s.Maximum > high:
			t.Errorf("%s may be %v to %v, which an %s does not hold", path, *s.Minimum, *s.Maximum, typ)
		}
		return 1
	}
	return 0
}
