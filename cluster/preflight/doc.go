// Package preflight finds out, before a program starts its work, whether the API server is there, serves Seamark's
// objects and lets the program do what it must. Without it a missing CRD or right shows only as a watch that fails
// again and again in the log. The error names everything that is missing at once, and how to get it.
package preflight
