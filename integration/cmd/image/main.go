// Image builds a container image archive from a Dockerfile without a container engine. It takes Dockerfiles that only copy
// files onto nothing (FROM scratch), so whoever has docker can give the same file to `docker build`.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/seamark-io/seamark/integration/oci"
)

const usage = `usage: image -f DOCKERFILE -t REFERENCE [-t REFERENCE]... -o ARCHIVE CONTEXT

Builds the image that DOCKERFILE describes from the files under CONTEXT and writes it, under the names REFERENCE
(registry/repository:tag), as an archive for "ctr -n k8s.io images import" or "docker load".
The Dockerfile starts with FROM scratch and has only COPY, ENTRYPOINT, ENV, EXPOSE, LABEL and USER.

`

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	var references []string
	flags.Func("t", "name `REFERENCE` of the image; may be given several times", func(s string) error {
		references = append(references, s)
		return nil
	})
	dockerfile := flags.String("f", "Dockerfile", "the `DOCKERFILE`")
	out := flags.String("o", "", "`ARCHIVE` to write (its folder is made if absent)")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() != 1 || len(references) == 0 || *out == "" {
		flags.Usage()
		return 2
	}
	if err := build(*dockerfile, flags.Arg(0), *out, references); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		return 1
	}
	return 0
}

func build(dockerfile, context, out string, references []string) error {
	f, err := os.Open(dockerfile)
	if err != nil {
		return err
	}
	defer f.Close()
	recipe, err := oci.ParseDockerfile(f)
	if err != nil {
		return fmt.Errorf("%s: %w", dockerfile, err)
	}
	img, err := recipe.Image(context)
	if err != nil {
		return fmt.Errorf("%s: %w", dockerfile, err)
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	return oci.WriteArchiveFile(out, oci.Named{Image: img, References: references})
}
