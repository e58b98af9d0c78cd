// Package oci builds container images without a container engine: layers from files and folders, images from layers or
// from a Dockerfile of a restricted kind, archives from images.
//
// What it makes is reproducible: no clock, no user or host name and no order of a directory listing enters an archive, so
// equal inputs give equal bytes and equal digests. An archive is of the docker-save kind, which `ctr images import`,
// `docker load`, `podman load` and `skopeo` all read, and which carries the images' names.
package oci
