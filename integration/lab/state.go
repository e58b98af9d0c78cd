package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// state is what a lab's folder remembers of it. It is written before anything
// else is made.
type state struct {
	Options  Options
	Server   string            // address of the relay, from the machine
	Programs map[string]string // name → path of what was built for the lab
	Pause    string            // path of the archive of the image that every pod needs
}

const stateFile = "lab.json"

// stateRoot returns the folder in which each lab has one.
func stateRoot() (string, error) {
	root := os.Getenv("SEAMARK_LAB_STATE")
	if root == "" {
		root = os.Getenv("XDG_STATE_HOME")
		if root == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return "", fmt.Errorf("no folder for the state of labs: %w: set SEAMARK_LAB_STATE", err)
			}
			root = filepath.Join(home, ".local", "state")
		}
		root = filepath.Join(root, "seamark-lab")
	}
	return root, CheckVisible("SEAMARK_LAB_STATE", root)
}

// CheckVisible refuses a path that the hosts' own mounts would hide; setting is
// the name of what says that it is to be this one.
func CheckVisible(setting, path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		real = path // it may be yet to be made
	}
	for _, hidden := range []string{"/etc", "/run", "/var"} {
		for _, p := range []string{path, real} {
			if p == hidden || strings.HasPrefix(p, hidden+"/") {
				return fmt.Errorf("%s: the hosts of a lab have their own %s, so they could not see it: set %s to a folder elsewhere", path, hidden, setting)
			}
		}
	}
	return nil
}

func (s state) write(dir string) error {
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, stateFile), append(text, '\n'))
}

func readState(dir string) (state, error) {
	var s state
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%s: %w", filepath.Join(dir, stateFile), err)
	}
	return s, nil
}

// List returns the names of the labs of which there is a folder.
func List() ([]string, error) {
	root, err := stateRoot()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && validName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
