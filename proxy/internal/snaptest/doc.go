// Package snaptest writes cluster.Snapshots for tests in few words.
package snaptest
